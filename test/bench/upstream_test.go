package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFirstRow(t *testing.T) {
	// Both are slow in the second half: what is over is not.
	direct := slices.Concat(slices.Repeat([]time.Duration{100}, 60), slices.Repeat([]time.Duration{9000}, 40))
	through := slices.Clone(direct)
	for i := range through {
		through[i] += 50
	}
	through[99], through[98] = 20000, 30000
	row := newFirstRow(&server{kind: kindOf(ourName)}, direct, through)
	if row.Over != 50 || row.P50 != 150 || row.P99 != 20000 || row.Over9 != 11000 || row.Goal == nil || !row.Goal.Met {
		t.Errorf("got %+v, goal %+v", row, row.Goal)
	}
	for i := range through {
		through[i] += maxFirst
	}
	row = newFirstRow(&server{kind: kindOf(ourName)}, direct, through)
	if row.Goal.Met {
		t.Errorf("%v over direct met the goal", row.Over)
	}
	if newFirstRow(&server{kind: kindOf("varnish")}, direct, through).Goal != nil {
		t.Error("a peer has a goal")
	}
}

func TestColdRows(t *testing.T) {
	servers := []*server{{kind: kindOf(ourName)}, {kind: kindOf("proxy_cache")}, {kind: kindOf("cache_handler")}, {kind: kindOf("varnish")}}
	rows := newColdRows(servers, map[string][]coldRun{
		ourName:         {{Megabytes: 90, CPU: 2}, {Megabytes: 9, CPU: 2}, {Megabytes: 96, CPU: 2}},
		"proxy_cache":   {{Megabytes: 100, CPU: 1}, {Megabytes: 10, CPU: 1}, {Megabytes: 100, CPU: 1}},
		"cache_handler": {{Megabytes: 9, CPU: 20}}, // one round only
	})
	if len(rows) != 3 {
		t.Fatalf("got %d rows, want those of who ran", len(rows))
	}
	if r := rows[1]; *r.Ratio != (spread{0.9, 0.9, 0.96}) || r.CPU.Median != 0.5 || r.Goal == nil || r.Goal.Met {
		t.Errorf("got %+v, ratio %+v, goal %+v", r, r.Ratio, r.Goal)
	}
	if r := rows[2]; *r.Ratio != (spread{10, 10, 10}) || r.Goal != nil {
		t.Errorf("got %+v, ratio %+v", r, r.Ratio)
	}
}

func TestCrowdObjects(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), crowdSize/16)
	objects := crowdObjects("crowd/object", body)
	var whole int
	parts := map[string]bool{}
	for _, o := range objects {
		if o.part == "" {
			whole++
			continue
		}
		parts[o.part] = true
	}
	if len(objects) != crowdClients || whole != crowdClients/2 || len(parts) < 30 || !parts["bytes=-1048576"] {
		t.Errorf("%d objects, %d of them whole; parts %v", len(objects), whole, parts)
	}

	// A part must come as one, with the right bytes.
	o := objects[3]
	from, to := 0, 0
	if _, err := fmt.Sscanf(o.part, "bytes=%d-%d", &from, &to); err != nil {
		t.Fatal(o.part, err)
	}
	part := string(body[from : to+1])
	for _, tt := range []struct {
		name, body string
		status     int
		ok         bool
	}{
		{"right", part, 206, true},
		{"elsewhere", part[1:] + part[:1], 206, false},
		{"as if it were all", part, 200, false},
	} {
		addr := answer(t, fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", tt.status, len(tt.body), tt.body))
		if _, err := fetchAll(t.Context(), addr, []object{o}); (err == nil) != tt.ok {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

// TestReadSlowly holds slow clients to notice whatever is wrong with what they get.
func TestReadSlowly(t *testing.T) {
	body := []byte(strings.Repeat("0123456789abcdef", 6000))
	for _, tt := range []struct {
		name   string
		length int
		body   string
		ok     bool
	}{
		{"right", len(body), string(body), true},
		{"flipped", len(body), string(body[:70_000]) + "!" + string(body[70_001:]), false},
		{"cut", len(body), string(body[:len(body)-1]), false},
		{"short", 10, string(body[:10]), false},
	} {
		addr := answer(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", tt.length, tt.body))
		got, err := readSlowly(t.Context(), addr, "x", body)
		if (err == nil) != tt.ok || tt.ok && got != int64(len(body)) {
			t.Errorf("%s: got %d bytes, %v", tt.name, got, err)
		}
	}

	// Who leaves has not failed, and was slow.
	large := bytes.Repeat(body, 200)
	addr := answer(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(large), large))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	got, err := readSlowly(ctx, addr, "x", large)
	if err != nil || got == 0 || got > 2*slowRate*3/10 {
		t.Errorf("got %d bytes, %v", got, err)
	}
}

func TestUpstreamGoals(t *testing.T) {
	missed := atLeast(2, 1)
	for _, u := range []upstreamResult{
		{Hits: []hitTable{{Servers: []hitRow{{Goal: missed}}}}},
		{First: &firstTable{Servers: []firstRow{{}, {Goal: missed}}}},
		{Crowd: []crowdRow{{Goal: missed}}},
		{Cold: []coldRow{{}, {Goal: missed}}},
		{Memory: []memoryRow{{Goal: missed}}},
	} {
		if !(&report{Upstream: &u}).missed() {
			t.Errorf("goal missed, but not noticed: %+v", u)
		}
	}
	met := upstreamResult{Cold: []coldRow{{Goal: atLeast(2, 2)}}, First: new(firstTable)}
	if (&report{Upstream: &met}).missed() {
		t.Error("goal met, but missed")
	}
}
