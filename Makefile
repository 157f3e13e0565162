# make demo        a realm, real clients, all in one go (ONCE=1: end when it held)
# make test        everything
# make realm DIR=  the realm for your own tools; make realm-down DIR= ends it
#                  SPOOL=cyrus: with a Cyrus master over the same spool
# make bench       kpopd's cost beside Cyrus's and Dovecot's, with the table of
#                  docs/performance.md; bench-quick holds it against bench/ratios.json
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X main.version=$(VERSION)
DIR     ?= demo

.PHONY: all build deps demo realm realm-down test unit integration refusals lint thunderbird race-cyrus bench-krb5 fuzz fuzz-short chaos soak bench bench-quick bin/bench check release deb test-docker clean

all: build

build:
	mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/kpopd ./cmd/kpop ./integration/cmd/realm

# What the realm and its clients are made of; asks apt only for what is missing.
deps:
	@integration/deps.sh

demo: deps build
	rm -rf demo
	bin/realm demo $(if $(ONCE),--once) demo

realm: deps build
	bin/realm up $(if $(SPOOL),--spool $(SPOOL)) $(DIR)

realm-down:
	bin/realm down $(DIR)

# The tag adds the tests that start krb5kdc, slapd, Cyrus's tools and clients; one
# package at a time, since they measure time and memory.
test: deps build lint
	go test -race -p 1 -timeout 30m -tags integration ./...
	@$(MAKE) --no-print-directory fuzz-short

lint:
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-clean:'; gofmt -l .; exit 1; }
	go vet ./...
	go vet -tags integration,man ./...

unit:
	go test -race -timeout 8m ./...

integration: deps build
	go test -race -timeout 8m -tags integration -count=1 ./integration

# Whether refusals can be told apart: the words of each kind, and the median time
# of 200 tries of each.
refusals: deps build
	go test -tags integration -count=1 -timeout 30m -v -run TestRefusalsAreAlike ./integration -refusals 200

# Thunderbird, without a screen, ten times on each port; make test lets it log in once.
thunderbird: deps build
	go test -tags integration -count=1 -timeout 2h -v -run 'TestClientMatrix/Thunderbird' ./integration -thunderbird 10

# Everybody against everybody on one spool beside a live Cyrus, a minute in each
# mode of expunging and with conversations; then a QUIT cut off at each of its system
# calls. make test has a short form of both.
race-cyrus: deps build
	go test -race -tags integration -timeout 30m -count=1 -v -run 'BesideCyrus' ./integration -args -race-time=60s
	go test -tags integration -timeout 30m -count=1 -v -run 'QuitCutOff|RemoveThroughCyrus' ./integration -args -every-fault

# What verifying a ticket costs, beside gokrb5's and MIT's acceptors in the same
# run; fails beyond what is allowed.
bench-krb5: deps
	go test -tags integration -count=1 -run '^$$' -bench '^BenchmarkCost$$' -benchtime 1x ./auth/krb5

# A look of a second or so at each parser of what comes from the network and of
# Kerberos's files; make test does it too. One instrumented program a package.
FUZZED := auth/krb5 krb5conf kpop
fuzz-short:
	@set -e; d=$$(mktemp -d); trap 'rm -rf "$$d"' EXIT; for p in $(FUZZED); do \
	  go test -c -fuzz . -o $$d/fuzzed ./$$p; \
	  for f in $$($$d/fuzzed -test.list '^Fuzz' | grep '^Fuzz'); do echo "$$p $$f"; \
	    (cd $$p && $$d/fuzzed -test.run '^$$' -test.fuzz "^$$f\$$" -test.fuzztime 2000x -test.fuzzcachedir $$d/cache -test.parallel 2 >$$d/log 2>&1) || { cat $$d/log; exit 1; }; \
	  done; done

# Ten minutes of CPU for each parser, one after another; ends in a table. FUZZ holds
# flags of integration/cmd/fuzz: FUZZ='--time 30s --only krb5conf' for a short look.
fuzz:
	go run ./integration/cmd/fuzz --document docs/reliability.md $(FUZZ)

# Each fault of integration/chaos, played many times; ends in a table.
ROUNDS ?= 20
chaos: deps build
	cd integration/chaos && CHAOS_ROUNDS=$(ROUNDS) go test -tags integration -count=1 -timeout 2h

# A crowd of 13,000 for ten minutes; SOAK holds flags of integration/cmd/soak.
soak: deps build
	go build -o bin/ ./integration/cmd/soak
	bin/soak $(SOAK)

# staticcheck, errcheck, gosec and, where its database can be reached, govulncheck.
check:
	deploy/check.sh

# Static binaries, checksums and a bill of materials, into dist/.
release:
	deploy/release.sh $(VERSION)

# Cyrus and Dovecot beside kpopd, each scenario in turn on each; needs root. With
# ROUNDS=5 more often than three times; with ONLY='RETR|TOP' only some, and then
# the tables go to bench/ alone.
BENCH = bin/bench $(if $(filter command environment,$(origin ROUNDS)),--rounds $(ROUNDS)) $(if $(ONLY),--only '$(ONLY)') $(BENCHFLAGS)
bin/bench: build
	go build -trimpath -o bin/ ./integration/cmd/bench

bench: deps bin/bench
	$(BENCH) $(if $(ONLY),,--document docs/performance.md)

bench-quick: deps bin/bench
	$(BENCH) --quick --check bench/ratios.json

# A package of Debian, into dist/, with manual pages made of the command tree.
deb:
	deploy/debian/build $(VERSION)

# The realm of docker-compose.yml for real, from images made here where no registry
# can be reached, and the Debian package in a clean container. As root.
test-docker:
	deploy/docker/test

clean:
	rm -rf bin demo dist
