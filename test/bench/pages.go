package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
)

const (
	// pagesGoal is how fast pages have to be, of a plain file's rate.
	pagesGoal = 0.8

	// pageVersions is how many wheels the project of the page has.
	pageVersions = 10

	pagePath = "/wheel/simple/foo/"

	// pipAccept is what pip asks for pages with.
	pipAccept = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
)

// pagesResult is what a page of an index costs that is made of wheels.
type pagesResult struct {
	Bytes int64   `json:"bytes"`
	Page  load    `json:"page"` // each figure's own median
	File  load    `json:"file"`
	Ratio *spread `json:"ratio"` // of the page's requests per second to the file's
	CPU   *spread `json:"cpu"`   // of the file's CPU time per request to the page's
	Goal  *goal   `json:"goal"`
}

// pages compares a page of an index of wheels with a file that has the same bytes.
func (b *bench) pages(ctx context.Context, rep *report) error {
	defer b.stopAll()
	unpin, err := b.pin()
	if err != nil {
		return err
	}
	defer unpin()
	tree, wheels := filepath.Join(b.dir, "pages"), filepath.Join(b.dir, "wheels")
	if err := os.MkdirAll(filepath.Join(tree, "files"), 0o755); err != nil {
		return err
	}
	for n := range pageVersions {
		w := wheel.Wheel{Name: "foo", Version: fmt.Sprintf("1.%d", n), Python: ">=3.9"}
		var buf bytes.Buffer
		_, err := w.WriteTo(&buf)
		if err == nil {
			err = wheel.WriteFile(filepath.Join(wheels, "f/foo", w.Filename()), buf.Bytes())
		}
		if err != nil {
			return err
		}
	}
	if b.tls, err = writeTLS(b.dir); err != nil {
		return err
	}
	if err := b.give(b.dir); err != nil {
		return err
	}
	srv, err := b.startServer(ctx, kindOf(ourName), site{tree: tree, wheels: wheels, maxSize: gib})
	if err != nil {
		return err
	}
	page := file{title: "page", path: pagePath, accept: pipAccept}
	if err := awaitPage(ctx, srv, &page); err != nil {
		return err
	}
	plain := file{title: "file", name: "page", size: page.size, sum: page.sum}
	_, body, err := get(ctx, srv.url(page), pipAccept)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tree, "files", plain.name), body, 0o644); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // until the file is at rest
	loads := map[string][]load{}
	for round := range b.rounds {
		foreign, err := b.awaitQuiet(ctx)
		if err != nil {
			return err
		}
		rep.Foreign = max(rep.Foreign, foreign)
		for i := range 2 {
			f := []file{page, plain}[(i+round)%2]
			if err := srv.check(ctx, f); err != nil {
				return err
			}
			l, err := b.wrk(ctx, srv, f, b.duration)
			if err != nil {
				return fmt.Errorf("%s: %w", f.title, err)
			}
			loads[f.title] = append(loads[f.title], l)
		}
	}
	progress("pages: %d rounds", b.rounds)
	rep.Pages = newPagesResult(page.size, loads["page"], loads["file"])
	return nil
}

// awaitPage waits until the page has all checksums, and notes what it is.
func awaitPage(ctx context.Context, srv *server, page *file) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, body, err := get(ctx, srv.url(*page), pipAccept)
		// Each wheel has one for itself, and one for its metadata.
		if err == nil && bytes.Count(body, []byte(`"sha256":`)) == 2*pageVersions {
			page.size, page.sum = int64(len(body)), sha256.Sum256(body)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the page is not complete: %v\n%s", err, body)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func newPagesResult(size int64, page, file []load) *pagesResult {
	r := &pagesResult{
		Bytes: size,
		Page:  load{Requests: medianOf(page, func(l load) float64 { return l.Requests }), CPU: medianOf(page, func(l load) float64 { return l.CPU })},
		File:  load{Requests: medianOf(file, func(l load) float64 { return l.Requests }), CPU: medianOf(file, func(l load) float64 { return l.CPU })},
		Ratio: spreadOf(page, func(i int) float64 { return page[i].Requests / file[i].Requests }),
		CPU:   spreadOf(page, func(i int) float64 { return file[i].CPU / page[i].CPU }),
	}
	r.Goal = atLeast(pagesGoal, r.Ratio.Median)
	return r
}

func (r *pagesResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nA page of an index of wheels, %d bytes, as pip asks for it, and a file of the same bytes.\n\n", r.Bytes)
	t := table{{"", "req/s", "CPU us", "page/file", "min..max", "by CPU", "min..max", "goal"}}
	t.row("page", figure(r.Page.Requests), figure(r.Page.CPU),
		fmt.Sprintf("%.2f", r.Ratio.Median), fmt.Sprintf("%.2f..%.2f", r.Ratio.Min, r.Ratio.Max),
		fmt.Sprintf("%.2f", r.CPU.Median), fmt.Sprintf("%.2f..%.2f", r.CPU.Min, r.CPU.Max), r.Goal.text(fmt.Sprintf("%.2f", pagesGoal)))
	t.row("file", figure(r.File.Requests), figure(r.File.CPU))
	t.print(w)
}
