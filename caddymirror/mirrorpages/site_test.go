package mirrorpages_test

import (
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

	_ "github.com/unifiedmirrors/mirror/caddymirror/mirrorcache"
	_ "github.com/unifiedmirrors/mirror/caddymirror/mirrorpages"
	_ "github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// server provisions a Caddyfile whose sites are all of one server.
func server(t *testing.T, caddyfile string) *caddyhttp.Server {
	t.Helper()
	data, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Log(w)
	}
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(data, &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*caddyhttp.App).Servers["srv0"]
}

var exported = regexp.MustCompile(`\$NODEPOOL_MIRROR_HOST(\S*)}"`)

// mirrored are the paths of mounts that a site's variables for shells have.
func mirrored(t *testing.T, srv *caddyhttp.Server, target string) (paths []string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "GET", target, nil)
	srv.ServeHTTP(w, r)
	if w.Code != 200 {
		return []string{w.Result().Status}
	}
	for _, m := range exported.FindAllStringSubmatch(w.Body.String(), -1) {
		paths = append(paths, m[1])
	}
	return paths
}

// TestSites: what is told are the mounts of the site that is asked, wherever in it the
// directives stand.
func TestSites(t *testing.T) {
	srv := server(t, `
{
	auto_https off
	mirror {
		cache {
			path `+filepath.Join(t.TempDir(), "cache")+`
		}
	}
}
http://plain.test {
	# The order of directives is ours: the mount at the root does not take the pages.
	mirror_cache {
		mount / /srv
		mount /a /srv/a
	}
	mirror_clients
}
http://routed.test, http://old.test {
	route {
		mirror_clients
		mirror_cache {
			mount /b /srv/b {
				old_name old.test
			}
			mount /c /srv/c
		}
		respond 404
	}
}
http://split.test {
	handle /clients/* {
		mirror_clients
	}
	handle /d/* {
		mirror_cache {
			mount /d /srv/d
		}
	}
	mirror_cache /e/* {
		mount /e /srv/e
	}
	@other host other.test
	handle @other {
		mirror_cache {
			mount /not-here /srv/e
		}
	}
}
http://stripped.test {
	handle_path /mirror/* {
		mirror_clients
		mirror_cache {
			mount /f /srv/f
		}
	}
}
http://none.test {
	mirror_clients
}
http:// {
	mirror_clients
	mirror_cache {
		mount /g /srv/g
	}
}
`)
	for target, want := range map[string][]string{
		"http://plain.test/clients/mirror_info.sh":           {"/a"},
		"http://routed.test/clients/mirror_info.sh":          {"/b", "/c"},
		"http://old.test/clients/mirror_info.sh":             {""},
		"http://split.test/clients/mirror_info.sh":           {"/d", "/e"},
		"http://stripped.test/mirror/clients/mirror_info.sh": {"/mirror/f"},
		"http://none.test/clients/mirror_info.sh":            {"404 Not Found"},
		"http://any.test/clients/mirror_info.sh":             {"/g"},
	} {
		got := mirrored(t, srv, target)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s names %q, want %q", target, got, want)
		}
	}
}

// TestTrustedProxies: Caddy's own setting says whose X-Forwarded-Host counts.
func TestTrustedProxies(t *testing.T) {
	srv := server(t, `
{
	auto_https off
	servers {
		trusted_proxies static 192.0.2.1
	}
}
http:// {
	mirror_clients
	mirror_cache {
		mount /g /srv/g
	}
}
`)
	for remote, want := range map[string]string{
		"192.0.2.1:1234": "https://mirror.test/clients/",
		"192.0.2.2:1234": "http://inner.test/clients/",
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://inner.test/clients/mirror_info.sh", nil)
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-Host", "mirror.test")
		r.Header.Set("X-Forwarded-Proto", "https")
		srv.ServeHTTP(w, r)
		if head, _, _ := strings.Cut(w.Body.String(), "\n"); head != "# "+want+"mirror_info.sh" {
			t.Errorf("asked by %s: %d, %q, want %s", remote, w.Code, head, want)
		}
	}
}
