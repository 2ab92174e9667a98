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
	crowdRate    = 16 * mib // so that all come while it is under way
)

// crowdRow is what many clients at once on one cold object get from one server.
type crowdRow struct {
	Name     string        `json:"name"`
	Title    string        `json:"title"`
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
	objects := crowdObjects(body)
	var rows []crowdRow
	for _, s := range servers {
		progress("upstream: %d clients on a cold object, %s", crowdClients, s.title)
		row := crowdRow{Name: s.name, Title: s.title}
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
		if err != nil {
			return nil, err
		}
		if s.name == ourName {
			if row.Wrong != "" {
				return nil, errors.New(row.Wrong)
			}
			row.Goal = &goal{Bound: 1, Met: row.Requests == 1}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// crowdObjects is what the clients ask for: parts in all places, and the end.
func crowdObjects(body []byte) []object {
	const part = mib
	whole := object{name: crowdDir + "/object", size: int64(len(body)), sum: checksum(body)}
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
	fmt.Fprintf(w, "\n%d clients at once on one cold object of %s, half of them for a part; the upstream sends %s/s.\n\n",
		crowdClients, humanize.IBytes(crowdSize), humanize.IBytes(crowdRate))
	t := table{{"", "upstream requests", "goal", "first byte", "the last's", "to the end"}}
	for _, r := range rows {
		cells := []string{r.Title, strconv.FormatInt(r.Requests, 10), r.Goal.text("1")}
		if r.Wrong != "" {
			cells = append(cells, "failed")
		} else {
			cells = append(cells, millis(r.First), millis(r.Last), millis(r.Time))
		}
		t.row(cells...)
	}
	t.print(w)
	for _, r := range rows {
		if r.Wrong != "" {
			fmt.Fprintf(w, "%s failed: %s\n", r.Title, r.Wrong)
		}
	}
}
