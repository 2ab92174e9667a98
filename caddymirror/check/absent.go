package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
)

// absent asks for what is not there. A server that answers with 200, or with a page for
// people, has clients take that for a file: apt takes an empty one.
func (l *mountLook) absent(ctx context.Context) {
	if !l.isReached() || ctx.Err() != nil || l.isOneFile { // there may be anything beside it
		return
	}
	name := fmt.Sprintf("caddy-mirror-check-%x", rand.Uint64()) //nolint:gosec // not for secrets
	u := l.at(name)
	if l.Kind == PyPI {
		u = l.at("simple/" + name + "/")
	}
	a, err := l.c.ask(ctx, http.MethodGet, u, nil)
	if err != nil {
		l.failed(ctx, Absent, l.at(""), err)
		return
	}
	defer a.close()
	switch a.StatusCode {
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden, http.StatusUnauthorized:
	default:
		l.fault(Absent, l.at(""), "has no %s, but it %s; it should be 404", name, statusError(a.StatusCode))
	}
}
