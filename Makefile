# The two ways in:   make demo    and    make test
#
# Both install what is missing of Debian's packages (integration/deps.sh).

GO       ?= go
DIR      ?=
SPOOL    ?= embedded
FUZZTIME ?= 30s

.PHONY: all build demo realm realm-down test unit integration lint fuzz deps clean

all: build

build:
	$(GO) build -o bin/ ./cmd/kpopd ./cmd/kpop ./integration/cmd/realm

# A realm of its own, alice's mail by three real clients, then by hand until
# Ctrl-C. ONCE=1 ends by itself; the exit status says whether every step held.
demo: deps build
	bin/realm demo --dir $(or $(DIR),demo) $(if $(ONCE),--once)

# The same realm for programs and people: make realm DIR=path; . path/env
realm: deps build
	@test -n "$(DIR)" || { echo "usage: make realm DIR=path [SPOOL=cyrus]" >&2; exit 2; }
	bin/realm up --dir "$(DIR)" --spool $(SPOOL)

realm-down: build
	@test -n "$(DIR)" || { echo "usage: make realm-down DIR=path" >&2; exit 2; }
	bin/realm down --dir "$(DIR)"

test: deps lint unit integration

unit:
	$(GO) test -race ./...

integration: deps
	$(GO) test -tags integration -count 1 -timeout 10m ./integration/...

lint:
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "not gofmt'd: $$files" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags integration ./integration/...

# Each fuzz target for FUZZTIME.
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

deps:
	@integration/deps.sh

clean:
	rm -rf bin
