package wheelindex

import (
	"sync"
	"sync/atomic"
)

// A job is a file to be read.
type job struct {
	f      *file
	done   chan struct{} // closed when the file is known, or given up
	state  jobState
	urgent atomic.Bool // somebody waits for it: also read without the lock
	tries  int
	err    error // of the last try
}

type jobState uint8

const (
	waiting jobState = iota
	running
	resting // after a try that failed
	over
)

// queue holds files to be read, those first that somebody waits for. Its lock is the
// index's, which all methods need but take and emptied.
type queue struct {
	mu      *sync.Mutex
	more    *sync.Cond
	jobs    map[string]*job // by path
	urgent  []*job
	rest    []*job
	empty   chan struct{} // closed while there are no jobs
	closed  bool
	changed bool // a file was not the one that was listed, or is left out for a passing reason
}

func (q *queue) init(mu *sync.Mutex) {
	q.mu, q.more = mu, sync.NewCond(mu)
	q.jobs = map[string]*job{}
	q.empty = make(chan struct{})
	close(q.empty)
}

// add adds a file, unless it is there.
func (q *queue) add(f *file, urgent bool) *job {
	j := q.jobs[f.path]
	if j == nil || !j.f.info.Same(f.info) {
		if j != nil {
			q.finish(j)
		}
		if len(q.jobs) == 0 {
			q.empty = make(chan struct{})
		}
		j = &job{f: f, done: make(chan struct{})}
		q.jobs[f.path] = j
		if !urgent {
			q.push(&q.rest, j)
		}
	}
	if urgent && j.state != resting && j.urgent.CompareAndSwap(false, true) && j.state == waiting {
		q.push(&q.urgent, j)
	}
	return j
}

func (q *queue) push(to *[]*job, j *job) {
	*to = append(*to, j)
	q.more.Broadcast()
}

// again has a job tried again.
func (q *queue) again(j *job) {
	if j.state == resting {
		j.state = waiting
		q.push(&q.rest, j)
	}
}

// finish ends a job.
func (q *queue) finish(j *job) {
	if j.state == over {
		return
	}
	j.state = over
	close(j.done)
	if q.jobs[j.f.path] == j {
		delete(q.jobs, j.f.path)
		if len(q.jobs) == 0 {
			close(q.empty)
		}
	}
}

// keep ends all jobs but those of the files that are wanted.
func (q *queue) keep(wanted func(*file) bool) {
	for _, j := range q.jobs {
		if !wanted(j.f) {
			q.finish(j)
		}
	}
	q.changed = false
}

// take waits for a job, and returns nil when the queue is closed. urgentOnly takes none
// that nobody waits for.
func (q *queue) take(urgentOnly bool) *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		j := pop(&q.urgent)
		if j == nil && !urgentOnly {
			j = pop(&q.rest)
		}
		if j != nil {
			j.state = running
			return j
		}
		q.more.Wait()
	}
	return nil
}

// pop takes the first job that waits.
func pop(from *[]*job) *job {
	for len(*from) > 0 {
		j := (*from)[0]
		(*from)[0] = nil
		*from = (*from)[1:]
		if j.state == waiting {
			return j
		}
	}
	*from = nil
	return nil
}

// close has take return.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}

// emptied is closed while there are no jobs.
func (q *queue) emptied() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.empty
}

// unsure reports whether files should be listed again soon.
func (q *queue) unsure() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}
