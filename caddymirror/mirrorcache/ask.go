package mirrorcache

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/format"
)

// asks are how the format has upstreams asked, so many of them.
type asks struct {
	asker format.Asker
	kept  *lru.Cache[asking, asking]
}

// asking is a question to a format, or its answer: then name is an encoding.
type asking struct{ name, accept string }

func newAsks(asker format.Asker) *asks {
	kept, err := lru.New[asking, asking](maxPlans)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &asks{asker, kept}
}

// of is the Accept and the Accept-Encoding for a client's Accept. There is no asker if a is
// nil.
func (a *asks) of(name, accept string) (as, encoding string) {
	if a == nil {
		return accept, acceptEncoding
	}
	q := asking{name, accept}
	if found, ok := a.kept.Get(q); ok {
		return found.accept, found.name
	}
	as, encoding = a.asker.Ask(name, accept)
	if len(name)+len(accept) <= maxPlanKey {
		a.kept.Add(q, asking{encoding, as})
	}
	return as, encoding
}
