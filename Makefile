# Needs Go. The tests need more: see "deps".
GO ?= go
CADDYFILE ?= Caddyfile.example
LINT := v2.15.0
RACE ?= -race

# All builds have the same flags, testcaddy's and xcaddy.json's too: they
# share what is compiled, and compiling all of Caddy takes minutes.
BUILDFLAGS := -trimpath -ldflags=-s -tags=nobadger,nomysql,nopgx
GOFLAGS := $(strip $(shell $(GO) env GOFLAGS) -trimpath -tags=nobadger,nomysql,nopgx)
export GOFLAGS

# Packages without Caddy's standard modules: quick to build with -race.
LEAVES := ./examples/... $(patsubst %,./caddymirror/%/...,accept afs breaker check diskcache freshness httpcond panics process repo sandbox step upstream)
MODULES := ./caddymirror ./cmd/... $(patsubst %,./caddymirror/%/...,caddyafs command directive format gate job mirror mirrorcache mirrorpages origin program releaser syncer)

# Debian's names of what the tests run: a C compiler for the race detector,
# the clients and repository tools of test/clients, what builds wheels, a file system that can hang,
# the servers of an AFS cell in network namespaces, and of a Kerberos realm, what
# the commands of examples/openstack use, and other HTTP servers and registries.
PACKAGES := gcc libc6-dev reprepro gnupg python3 python3-pip bindfs fuse3 rsync \
	python3-venv python3-dev python3-wheel-whl \
	createrepo-c rpm dnf xz-utils bzip2 zstd \
	openafs-dbserver openafs-fileserver openafs-client openafs-fuse \
	iproute2 nftables \
	kstart krb5-kdc krb5-admin-server krb5-user \
	curl jq systemd nginx apache2-bin docker-registry skopeo

# Debian's npm does not go with a Node.js from elsewhere, which brings its own.
PACKAGES += $(if $(shell command -v npm 2>/dev/null),,npm)

.PHONY: help run build sample test deps bench lint fmt clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What jobs remember belongs to the sample: it goes with that, and another clone has its own.
run: build sample ## serve Caddyfile.example on port 8080
	MIRROR_WHEEL=$$(python3 -c 'import ensurepip, venv' 2>/dev/null && echo built || echo made) \
		XDG_DATA_HOME=$(CURDIR)/bin/data bin/caddy run --config $(CADDYFILE)

build: ## build bin/caddy
	CGO_ENABLED=0 $(GO) build $(BUILDFLAGS) -o bin/caddy ./cmd/caddy

sample: ## make the repositories that Caddyfile.example releases and serves
	CGO_ENABLED=0 $(GO) build $(BUILDFLAGS) -o bin/make-sample ./examples/sample
	bin/make-sample -o bin/sample/rw
	mkdir -p bin/sample/ro

test: deps build ## install what the tests need, and run them all
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=1 $(GO) test $(RACE) -timeout 20m $(LEAVES)
	CGO_ENABLED=1 $(GO) test $(RACE) -timeout 20m $(MODULES)
	CGO_ENABLED=0 $(GO) test -p 1 -timeout 20m ./test/...

deps: ## install what the tests need (Debian, as root), or say what is missing
	@missing=$$(for p in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $$missing; \
	else \
		echo "not installed, so some tests will be skipped:" $$missing; \
	fi

bench: ## compare with nginx, Apache, Varnish and file_server
	$(GO) run ./test/bench

lint: bin/golangci-lint-$(LINT) ## run the linters
	$< run ./...
	$< fmt --diff

fmt: bin/golangci-lint-$(LINT) ## format the sources
	$< fmt

bin/golangci-lint-$(LINT):
	GOBIN=$(CURDIR)/bin CGO_ENABLED=0 $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT)
	mv bin/golangci-lint $@

clean: ## remove what was built
	rm -rf bin
