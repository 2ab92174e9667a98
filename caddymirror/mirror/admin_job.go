package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// job answers for /mirror/jobs/NAME/...
func (a *adminAPI) job(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app()
	if err != nil {
		return err
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/mirror/jobs/"), "/")
	var run *runner
	if e := app.engine.Load(); e != nil {
		run = e.runner(name)
	}
	if run == nil {
		return apiError(http.StatusNotFound, fmt.Errorf("there is no job %q%s", name, app.jobNames()))
	}
	what, id, more := strings.Cut(rest, "/")
	if more && what != "runs" {
		return apiError(http.StatusNotFound, fmt.Errorf("jobs have no %q", rest))
	}
	want := http.MethodGet
	var answer func(http.ResponseWriter, *http.Request) error
	switch what {
	case "":
		answer = func(w http.ResponseWriter, _ *http.Request) error { return reply(w, run.history(time.Now())) }
	case "run":
		want, answer = http.MethodPost, run.serveRun
	case "hold":
		want, answer = http.MethodPost, run.serveHold
	case "resume":
		want, answer = http.MethodPost, run.serveResume
	case "forget":
		want, answer = http.MethodPost, run.serveForget
	case "log":
		answer = run.serveLog
	case "runs":
		answer = func(w http.ResponseWriter, r *http.Request) error { return run.serveOne(w, r, id) }
	default:
		return apiError(http.StatusNotFound, fmt.Errorf("jobs have no %q", what))
	}
	if r.Method != want {
		return apiError(http.StatusMethodNotAllowed, fmt.Errorf("method %s not allowed: use %s", r.Method, want))
	}
	return answer(w, r)
}

// jobNames says which jobs there are.
func (a *App) jobNames() string {
	e := a.engine.Load()
	if e == nil {
		return ", and no other"
	}
	var names []string
	for _, r := range e.all() {
		names = append(names, r.name)
	}
	if len(names) == 0 {
		return ", and no other"
	}
	return ": there are " + strings.Join(names, ", ")
}

// decode reads the body of a request, which may be empty.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil && dec.More() {
		err = errors.New("there is more than one value")
	}
	if err != nil {
		return apiError(http.StatusBadRequest, fmt.Errorf("reading the request: %w", err))
	}
	return nil
}

// runRequest says how to run a job.
type runRequest struct {
	// NoTimeout lets it take as long as it takes.
	NoTimeout bool `json:"no_timeout,omitempty"`

	// TakeOver runs an exclusive job though another host was ended while it ran it, and
	// what that has started may still run.
	TakeOver bool `json:"take_over,omitempty"`
}

type runReply struct {
	ID string `json:"id"`
}

func (r *runner) serveRun(w http.ResponseWriter, req *http.Request) error {
	var q runRequest
	if err := decode(w, req, &q); err != nil {
		return err
	}
	id, err := r.ask(q)
	if err != nil {
		return apiError(http.StatusConflict, fmt.Errorf("job %s: %w", r.name, err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", "/mirror/jobs/"+r.name+"/runs/"+id)
	w.WriteHeader(http.StatusAccepted)
	return json.NewEncoder(w).Encode(runReply{id})
}

type holdRequest struct {
	Reason string `json:"reason,omitempty"`
}

func (r *runner) serveHold(w http.ResponseWriter, req *http.Request) error {
	var q holdRequest
	if err := decode(w, req, &q); err != nil {
		return err
	}
	err := r.hold(&Hold{Reason: q.Reason, Since: time.Now()})
	if errors.Is(err, errNotLoaded) {
		return apiError(http.StatusServiceUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("the job is held, and will not be after a restart: %w", err)
	}
	return reply(w, r.status(time.Now()))
}

func (r *runner) serveResume(w http.ResponseWriter, _ *http.Request) error {
	err := r.hold(nil)
	switch {
	case errors.Is(err, errNotLoaded):
		return apiError(http.StatusServiceUnavailable, err)
	case errors.Is(err, errConfigured):
		return apiError(http.StatusConflict, err)
	}
	if err != nil {
		return fmt.Errorf("the job is resumed, and will not be after a restart: %w", err)
	}
	return reply(w, r.status(time.Now()))
}

// maxWait is the longest that a request for a run waits for its end.
const maxWait = 5 * time.Minute

func (r *runner) serveOne(w http.ResponseWriter, req *http.Request, id string) error {
	var wait time.Duration
	if text := req.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > maxWait {
			return apiError(http.StatusBadRequest, fmt.Errorf("wait is a duration up to %v, not %q", maxWait, text))
		}
	}
	ctx, cancel := context.WithTimeout(req.Context(), wait)
	defer cancel()
	run, ok := r.await(ctx, id)
	if !ok {
		return apiError(http.StatusNotFound, fmt.Errorf("job %s has no run %q, or has forgotten it", r.name, id))
	}
	return reply(w, run)
}

// defaultLast is how much of a log is sent.
const defaultLast = 64 << 10

func (r *runner) serveLog(w http.ResponseWriter, req *http.Request) error {
	last, err := strconv.ParseInt(cmp.Or(req.URL.Query().Get("last"), strconv.Itoa(defaultLast)), 10, 64)
	if err != nil || last < 0 {
		return apiError(http.StatusBadRequest, errors.New("last is a number of bytes"))
	}
	id := req.URL.Query().Get("run")
	if id == "" {
		id = r.lastID()
	}
	if id == "" {
		return apiError(http.StatusNotFound, fmt.Errorf("job %s has not run yet", r.name))
	}
	if _, ok := r.find(id); !ok {
		return apiError(http.StatusNotFound, fmt.Errorf("job %s has no run %q, or has forgotten it", r.name, id))
	}
	if err := r.hangs(time.Now()); err != nil {
		return apiError(http.StatusServiceUnavailable, err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	err = readRunLog(w, r.logDir(), id, last)
	if errors.Is(err, fs.ErrNotExist) {
		return apiError(http.StatusNotFound, fmt.Errorf("the log of run %s is not kept any more", id))
	}
	return err
}

// lastID names the run under way, or else the last one.
func (r *runner) lastID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.state.Current != nil:
		return r.state.Current.ID
	case len(r.state.Runs) > 0:
		return r.state.Runs[0].ID
	}
	return ""
}
