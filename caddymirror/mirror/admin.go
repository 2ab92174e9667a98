package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

// adminAPI is the mirror's part of Caddy's admin API:
//
//	GET  /mirror/status  state of caches, mounts and jobs, see Status
//	POST /mirror/purge   {"mount": "/pypi", "path": "/simple/x/", "prefix": "/simple/"}
//
//	GET  /mirror/jobs/NAME            state of a job, see job.Status
//	POST /mirror/jobs/NAME/run        {"release": true, "no_timeout": true, "take_over": true}: 202 and {"id": ID}
//	GET  /mirror/jobs/NAME/runs/ID    a run, see job.Run; ?wait=30s waits for its end
//	POST /mirror/jobs/NAME/hold       {"reason": "..."}: it does not run by itself
//	POST /mirror/jobs/NAME/resume     it does again
//	POST /mirror/jobs/NAME/forget     {"gate": "apt"}: it forgets the last release; {"removed": [FILE]}
//	GET  /mirror/jobs/NAME/log        what the last run printed; ?run=ID, ?last=BYTES
//
// A purge removes one path of a mount, or all paths that begin with prefix,
// or, with neither, all of the mount. It answers {"purged": N}.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.mirror", New: func() caddy.Module { return new(adminAPI) }}
}

// Routes are the endpoints.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/mirror/status", Handler: caddy.AdminHandlerFunc(a.status)},
		{Pattern: "/mirror/purge", Handler: caddy.AdminHandlerFunc(a.purge)},
		{Pattern: "/mirror/jobs/", Handler: caddy.AdminHandlerFunc(a.job)},
	}
}

// app is the app of the configuration that is active now. The router lives
// longer, or shorter, than the configuration that it was made with.
func (a *adminAPI) app() (*App, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil, apiError(http.StatusServiceUnavailable, errors.New("no configuration is active"))
	}
	app, err := ctx.AppIfConfigured("mirror")
	if err != nil {
		return nil, apiError(http.StatusNotFound, fmt.Errorf("no mirror is configured: %w", err))
	}
	return app.(*App), nil
}

func (a *adminAPI) status(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return apiError(http.StatusMethodNotAllowed, fmt.Errorf("method %s not allowed: use GET", r.Method))
	}
	app, err := a.app()
	if err != nil {
		return err
	}
	return reply(w, app.Status())
}

// purgeRequest says what to purge.
type purgeRequest struct {
	Mount  string  `json:"mount"`
	Path   *string `json:"path,omitempty"`
	Prefix *string `json:"prefix,omitempty"`
}

// check reports what is wrong with the request. An empty path is one that
// somebody failed to fill in, and not all of the mount.
func (r purgeRequest) check() error {
	switch {
	case r.Mount == "":
		return errors.New("which mount?")
	case r.Path != nil && r.Prefix != nil:
		return errors.New("path and prefix exclude each other")
	case r.Path != nil && *r.Path == "":
		return errors.New("path is empty")
	case r.Prefix != nil && *r.Prefix == "":
		return errors.New("prefix is empty")
	}
	return nil
}

type purgeReply struct {
	Purged int `json:"purged"`
}

func (a *adminAPI) purge(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return apiError(http.StatusMethodNotAllowed, fmt.Errorf("method %s not allowed: use POST", r.Method))
	}
	var req purgeRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return apiError(http.StatusBadRequest, fmt.Errorf("reading the request: %w", err))
	}
	if err := req.check(); err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	app, err := a.app()
	if err != nil {
		return err
	}
	var p, prefix string
	if req.Path != nil {
		p = *req.Path
	}
	if req.Prefix != nil {
		prefix = *req.Prefix
	}
	n, err := app.Purge(req.Mount, p, prefix)
	if err != nil {
		return err
	}
	return reply(w, purgeReply{n})
}

// Purge removes entries of every mount with this prefix.
func (a *App) Purge(mount, path, prefix string) (int, error) {
	mount = strings.TrimSuffix(mount, "/")
	purged, found := 0, false
	for _, m := range a.allMounts() {
		if m.prefix != mount {
			continue
		}
		found = true
		n, err := m.Purge(path, prefix)
		if err != nil {
			return 0, fmt.Errorf("purging %s: %w", mount, err)
		}
		purged += n
	}
	if !found {
		return 0, apiError(http.StatusNotFound, fmt.Errorf("there is no mount %s", mount))
	}
	return purged, nil
}

func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func apiError(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
