package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
)

const (
	crowdFile    = "crowd.bin"
	crowdSize    = 32 * mib
	crowdClients = 200
)

// crowds are how the upstream sends the object: as fast as it can, and so slowly that all
// clients come long before its end.
var crowds = []struct {
	dir  string
	rate int64 // bytes per second
}{
	{dir: "crowd"},
	{dir: "far", rate: 16 * mib},
}

// crowdRow is what many clients at once on one cold object get from one server.
type crowdRow struct {
	Name     string        `json:"name"`
	Title    string        `json:"title"`
	Rate     int64         `json:"upstream_bytes_per_second,omitempty"`
	Requests int64         `json:"upstream_requests"`
	Goal     *goal         `json:"goal,omitempty"`
	First    time.Duration `json:"first_byte_median_ns"`
	Last     time.Duration `json:"first_byte_max_ns"`
	Time     time.Duration `json:"time_ns"`
	Wrong    string        `json:"wrong,omitempty"` // what was wrong with an answer
}

// upstreamCrowd lets many clients ask each server at once for a cold object: half of them for
// the whole, half for a part.
func (b *bench) upstreamCrowd(ctx context.Context, up behind, servers []*server, path string) ([]crowdRow, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows []crowdRow
	for _, c := range crowds {
		objects := crowdObjects(c.dir+"/object", body)
		for _, s := range servers {
			progress("upstream: %d clients on a cold object, %s", crowdClients, s.title)
			row, err := crowdOn(ctx, up, s, objects)
			if err != nil {
				return nil, err
			}
			row.Rate = c.rate
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// crowdOn lets a client for each object ask one server.
func crowdOn(ctx context.Context, up behind, s *server, objects []object) (row crowdRow, err error) {
	row = crowdRow{Name: s.name, Title: s.title}
	row.Requests, err = up.count(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		f, err := fetchAll(ctx, s.addr, objects)
		if err != nil {
			row.Wrong = err.Error()
			return s.alive()
		}
		row.First, row.Last, row.Time = median(f.first), slices.Max(f.first), f.time
		return nil
	})
	if err != nil || s.name != ourName {
		return row, err
	}
	if row.Wrong != "" {
		return row, errors.New(row.Wrong)
	}
	row.Goal = &goal{Bound: 1, Met: row.Requests == 1}
	return row, nil
}

// crowdObjects is what the clients ask for: parts in all places, and the end.
func crowdObjects(name string, body []byte) []object {
	const part = mib
	whole := object{name: name, size: int64(len(body)), sum: checksum(body)}
	var objects []object
	for i := range crowdClients {
		o := whole
		if i%2 == 1 {
			from := (i / 2 * part) % len(body)
			p := body[from:min(from+part, len(body))]
			o.part = fmt.Sprintf("bytes=%d-%d", from, from+len(p)-1)
			if i%20 == 1 {
				p = body[len(body)-part:]
				o.part = fmt.Sprintf("bytes=-%d", part)
			}
			o.size, o.sum = int64(len(p)), checksum(p)
		}
		objects = append(objects, o)
	}
	return objects
}

func checksum(body []byte) uint32 { return crc32.Checksum(body, castagnoli) }

func printCrowd(w io.Writer, rows []crowdRow) {
	for _, c := range crowds {
		speed := "as fast as it can"
		if c.rate > 0 {
			speed = humanize.IBytes(uint64(c.rate)) + "/s"
		}
		fmt.Fprintf(w, "\n%d clients at once on one cold object of %s, half of them for a part; the upstream sends %s.\n\n",
			crowdClients, humanize.IBytes(crowdSize), speed)
		t := table{{"", "upstream requests", "goal", "first byte", "the last's", "to the end"}}
		var wrong []string
		for _, r := range rows {
			if r.Rate != c.rate {
				continue
			}
			cells := []string{r.Title, strconv.FormatInt(r.Requests, 10), r.Goal.text("1")}
			if r.Wrong != "" {
				cells = append(cells, "failed")
				wrong = append(wrong, r.Title+" failed: "+r.Wrong)
			} else {
				cells = append(cells, millis(r.First), millis(r.Last), millis(r.Time))
			}
			t.row(cells...)
		}
		t.print(w)
		for _, line := range wrong {
			fmt.Fprintln(w, line)
		}
	}
}
