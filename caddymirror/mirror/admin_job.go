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

	"github.com/unifiedmirrors/mirror/caddymirror/job"
)

// jobAPI answers for one job.
type jobAPI struct{ *job.Runner }

// job answers for /mirror/jobs/NAME/...
func (a *adminAPI) job(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app()
	if err != nil {
		return err
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/mirror/jobs/"), "/")
	var run jobAPI
	if e := app.engine.Load(); e != nil {
		run.Runner = e.Runner(name)
	}
	if run.Runner == nil {
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
		answer = func(w http.ResponseWriter, _ *http.Request) error { return reply(w, run.History(time.Now())) }
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
	for _, r := range e.Runners() {
		names = append(names, r.Name())
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

type runReply struct {
	ID string `json:"id"`
}

func (r jobAPI) serveRun(w http.ResponseWriter, req *http.Request) error {
	var q job.Request
	if err := decode(w, req, &q); err != nil {
		return err
	}
	id, err := r.Ask(q)
	if err != nil {
		return apiError(http.StatusConflict, fmt.Errorf("job %s: %w", r.Name(), err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", "/mirror/jobs/"+r.Name()+"/runs/"+id)
	w.WriteHeader(http.StatusAccepted)
	return json.NewEncoder(w).Encode(runReply{id})
}

type holdRequest struct {
	Reason string `json:"reason,omitempty"`
}

func (r jobAPI) serveHold(w http.ResponseWriter, req *http.Request) error {
	var q holdRequest
	if err := decode(w, req, &q); err != nil {
		return err
	}
	err := r.Hold(&job.Hold{Reason: q.Reason, Since: time.Now()})
	if errors.Is(err, job.ErrNotLoaded) {
		return apiError(http.StatusServiceUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("the job is held, and will not be after a restart: %w", err)
	}
	return reply(w, r.Status(time.Now()))
}

func (r jobAPI) serveResume(w http.ResponseWriter, _ *http.Request) error {
	err := r.Hold(nil)
	switch {
	case errors.Is(err, job.ErrNotLoaded):
		return apiError(http.StatusServiceUnavailable, err)
	case errors.Is(err, job.ErrConfigured):
		return apiError(http.StatusConflict, err)
	}
	if err != nil {
		return fmt.Errorf("the job is resumed, and will not be after a restart: %w", err)
	}
	return reply(w, r.Status(time.Now()))
}

// maxWait is the longest that a request for a run waits for its end.
const maxWait = 5 * time.Minute

func (r jobAPI) serveOne(w http.ResponseWriter, req *http.Request, id string) error {
	var wait time.Duration
	if text := req.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > maxWait {
			return apiError(http.StatusBadRequest, fmt.Errorf("wait is a duration up to %v, not %q", maxWait, text))
		}
	}
	ctx, cancel := context.WithTimeout(req.Context(), wait)
	defer cancel()
	run, ok := r.Await(ctx, id)
	if !ok {
		return apiError(http.StatusNotFound, fmt.Errorf("job %s has no run %q, or has forgotten it", r.Name(), id))
	}
	return reply(w, run)
}

// defaultLast is how much of a log is sent.
const defaultLast = 64 << 10

func (r jobAPI) serveLog(w http.ResponseWriter, req *http.Request) error {
	last, err := strconv.ParseInt(cmp.Or(req.URL.Query().Get("last"), strconv.Itoa(defaultLast)), 10, 64)
	if err != nil || last < 0 {
		return apiError(http.StatusBadRequest, errors.New("last is a number of bytes"))
	}
	id := req.URL.Query().Get("run")
	if id == "" {
		id = r.LastID()
	}
	if id == "" {
		return apiError(http.StatusNotFound, fmt.Errorf("job %s has not run yet", r.Name()))
	}
	if _, ok := r.Find(id); !ok {
		return apiError(http.StatusNotFound, fmt.Errorf("job %s has no run %q, or has forgotten it", r.Name(), id))
	}
	if err := r.Hangs(time.Now()); err != nil {
		return apiError(http.StatusServiceUnavailable, err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	err = r.ReadLog(w, id, last)
	if errors.Is(err, fs.ErrNotExist) {
		return apiError(http.StatusNotFound, fmt.Errorf("the log of run %s is not kept any more", id))
	}
	return err
}
