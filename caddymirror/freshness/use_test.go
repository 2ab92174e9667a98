package freshness

import (
	"testing"
	"time"
)

// TestUse_4_2 is what to do with an entry as it gets old: RFC 9111 sections 4, 4.2.4 and
// 5.2.1, RFC 5861, RFC 8246.
func TestUse_4_2(t *testing.T) {
	// Fresh until 100, while it is being asked until 110, if that fails until 200.
	usual := Policy{}.Freshness(reply(200, "Cache-Control: max-age=100, stale-while-revalidate=10, stale-if-error=100"))
	strict := Policy{}.Freshness(reply(200, "Cache-Control: max-age=100, must-revalidate"))
	shared := Policy{}.Freshness(reply(200, "Cache-Control: s-maxage=100"))
	noCache := Policy{MaxStale: time.Hour}.Freshness(reply(200, "Cache-Control: no-cache, max-age=100"))
	immutable := Policy{}.Freshness(reply(200, "Cache-Control: max-age=100, immutable, stale-while-revalidate=10, stale-if-error=100"))
	none := Freshness{}

	type step struct {
		age  int
		want Use
	}
	for _, tc := range []struct {
		name  string
		f     Freshness
		asks  string // Cache-Control of the request
		steps []step
	}{
		{"4.2 nothing asked", usual, "", []step{{0, Serve}, {99, Serve}, {100, ServeAndAsk}, {109, ServeAndAsk}, {110, AskOrServe}, {199, AskOrServe}, {200, MustAsk}}},
		{"4 no entry", none, "", []step{{0, MustAsk}}},
		{"4.2.4 must-revalidate", strict, "", []step{{99, Serve}, {100, MustAsk}}},
		{"4.2.4 s-maxage", shared, "", []step{{99, Serve}, {100, MustAsk}}},
		{"5.2.2.4 no-cache", noCache, "", []step{{0, MustAsk}, {1, MustAsk}}},
		{"5.2.2.4 no-cache, max-stale", noCache, "max-stale", []step{{0, MustAsk}}},

		{"5.2.1.1 max-age", usual, "max-age=50", []step{{49, Serve}, {50, AskOrServe}, {199, AskOrServe}, {200, MustAsk}}},
		{"5.2.1.1 max-age=0", usual, "max-age=0", []step{{0, AskOrServe}}},
		{"5.2.1.1 max-age, long", usual, "max-age=1000", []step{{99, Serve}, {100, AskOrServe}}},
		{"5.2.1.1 max-age, still fresh when the upstream is away", strict, "max-age=0", []step{{99, AskOrServe}, {100, MustAsk}}},
		{"5.2.1.1 max-age and max-stale", usual, "max-age=150, max-stale=100", []step{{149, Serve}, {150, AskOrServe}}},
		{"5.2.1.1 max-age and max-stale, short", usual, "max-age=150, max-stale=20", []step{{119, Serve}, {120, AskOrServe}}},
		{"5.2.1.2 max-stale", usual, "max-stale=50", []step{{149, Serve}, {150, AskOrServe}}},
		{"5.2.1.2 max-stale, any", usual, "max-stale", []step{{1 << 30, Serve}}},
		{"5.2.1.2 max-stale within stale-while-revalidate", usual, "max-stale=5", []step{{104, Serve}, {105, ServeAndAsk}}},
		{"5.2.1.2 max-stale, must-revalidate", strict, "max-stale", []step{{99, Serve}, {100, MustAsk}}},
		{"5.2.1.2 max-stale, s-maxage", shared, "max-stale=50", []step{{99, Serve}, {100, MustAsk}}},
		{"5.2.1.3 min-fresh", usual, "min-fresh=30", []step{{69, Serve}, {70, AskOrServe}, {105, AskOrServe}}},
		{"5.2.1.3 min-fresh, longer than the lifetime", usual, "min-fresh=1000", []step{{0, AskOrServe}}},
		{"5.2.1.3 min-fresh goes before max-stale", usual, "min-fresh=30, max-stale", []step{{69, Serve}, {70, AskOrServe}}},
		{"5.2.1.3 min-fresh, must-revalidate", strict, "min-fresh=30", []step{{69, Serve}, {70, AskOrServe}, {100, MustAsk}}},
		{"5.2.1.4 no-cache", usual, "no-cache", []step{{0, MustAsk}, {105, MustAsk}}},
		{"5.2.1.4 no-cache, max-stale", usual, "no-cache, max-stale", []step{{0, MustAsk}}},
		{"5.2.1.5 no-store is about storing", usual, "no-store", []step{{0, Serve}}},
		{"5.2.1.7 only-if-cached", usual, "only-if-cached", []step{{99, Serve}, {109, ServeAndAsk}, {110, GatewayTimeout}, {1000, GatewayTimeout}}},
		{"5.2.1.7 only-if-cached, nothing", none, "only-if-cached", []step{{0, GatewayTimeout}}},
		{"5.2.1.7 only-if-cached, no-cache", usual, "only-if-cached, no-cache", []step{{0, GatewayTimeout}}},
		{"5.2.1.7 only-if-cached, max-stale", usual, "only-if-cached, max-stale=50", []step{{149, Serve}, {150, GatewayTimeout}}},
		{"5861 4 permits", strict, "", []step{{100, MustAsk}}},
		{"5861 4 in the request", usual, "stale-if-error=500", []step{{599, AskOrServe}, {600, MustAsk}}},
		{"5861 4 in the request limits", usual, "stale-if-error=20", []step{{119, AskOrServe}, {120, MustAsk}}},
		{"5861 4 in the request, must-revalidate", strict, "stale-if-error=500", []step{{100, MustAsk}}},
		{"8246 2 max-age=0 of a reload", immutable, "max-age=0", []step{{0, Serve}, {99, Serve}, {100, AskOrServe}}},
		{"8246 2 no-cache", immutable, "no-cache", []step{{0, MustAsk}}},
	} {
		r := ParseRequest(fields("Cache-Control: " + tc.asks))
		for _, s := range tc.steps {
			if got := tc.f.Use(at(s.age), r); got != s.want {
				t.Errorf("%s: at %d: %v, want %v", tc.name, s.age, got, s.want)
			}
		}
	}

	// What pip sends costs a mirror no request.
	mirror := Policy{IgnoreClients: true, Rule: TTL(time.Minute)}
	f := mirror.Freshness(reply(200, "Cache-Control: max-age=0, must-revalidate"))
	if got := f.Use(at(59), mirror.Request(fields("Cache-Control: max-age=0"))); got != Serve {
		t.Errorf("mirror: %v", got)
	}
}

// TestTTL_RFC9211_2_4 is what a cache says of how long a response stays fresh.
func TestTTL_RFC9211_2_4(t *testing.T) {
	f := Policy{}.Freshness(reply(200, "Cache-Control: max-age=100", "Age: 10"))
	for age, want := range map[int]time.Duration{0: 90 * time.Second, 90: 0, 100: -10 * time.Second} {
		if got := f.TTL(at(age)); got != want {
			t.Errorf("after %ds: %v, want %v", age, got, want)
		}
	}
	if got := (Freshness{}).TTL(now); got != -Forever {
		t.Errorf("of no entry: %v", got)
	}
	if got := (Freshness{FreshUntil: now.AddDate(1000, 0, 0)}).TTL(now); got != Forever {
		t.Errorf("of one that stays: %v", got)
	}
}

func TestUseString(t *testing.T) {
	seen := map[string]bool{}
	for u := MustAsk; u <= GatewayTimeout; u++ {
		if s := u.String(); s == "" || seen[s] {
			t.Errorf("%d: %q", u, s)
		} else {
			seen[s] = true
		}
	}
}

// TestUseAllocs: to look at an entry that is fresh allocates nothing.
func TestUseAllocs(t *testing.T) {
	p := Policy{}
	f := p.Freshness(reply(200, "Cache-Control: max-age=100"))
	for _, h := range [][]string{nil, {"Cache-Control: max-age=0"}, {"Pragma: no-cache"}, {`Cache-Control: no-transform, max-stale="60"`}} {
		header := fields(h...)
		if n := testing.AllocsPerRun(100, func() { use = f.Use(now, p.Request(header)) }); n != 0 {
			t.Errorf("%q: %v allocations", h, n)
		}
	}
}

var use Use

func BenchmarkUse(b *testing.B) {
	p := Policy{}
	f := p.Freshness(reply(200, "Cache-Control: max-age=100, stale-while-revalidate=10"))
	for _, bc := range []struct {
		name  string
		lines []string
	}{
		{"plain", nil},
		{"pip", []string{"Cache-Control: max-age=0"}},
	} {
		h := fields(bc.lines...)
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				use = f.Use(now, p.Request(h))
			}
		})
	}
}
