# For people. `./test` is the whole truth: it prepares the machine and runs everything.
FUZZTIME ?= 30s
BENCHTIME ?= 1s

.PHONY: check generate test bench fuzz parking unparked model chaos restarts upgrade attack clients epochs simulate memory resume peers compression reproducible

# Everything that needs no server and is quick: formatting, vet, the linters of
# .golangci.yml, which package imports which, generated documentation that is up to date, names in it that exist.
check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	GOARCH=386 go vet ./proxy/conn # where an int has 32 bits
	set -e; for dir in $$(git ls-files 'tools/*.go' | xargs -n1 dirname | sort -u); do (cd $$dir && go vet . && go test -count=1 .); done
	go tool -modfile=tools/golangci/go.mod golangci-lint run
	go test -count=1 ./internal/arrows
	go test -count=1 -run 'Reference|Documented|Documentation' ./...

# The parts of docs/ that are written from tables in the code.
generate:
	go generate ./internal/arrows
	go run ./telemetry/metricsdoc > docs/metrics.md
	go run ./telemetry/metricsdoc traces > docs/traces.md

test:
	./test

# Parking's transcripts and edges on real servers; ./test has them, too.
parking:
	./test ./e2e/parking

# The end-to-end tests through a proxy whose sessions keep their connections.
unparked:
	E2E_WITHOUT_PARKING=1 ./test ./e2e

# Random operations against a model of what clients may be told, for long; ./test does some
# seconds of it on each stack. MODEL_ON=cyrus make model
model:
	MODEL_ON=$${MODEL_ON-dovecot} MODEL_MINUTES=$${MODEL_MINUTES-30} ./test -timeout 2h -parallel 1 -v ./e2e/model

# Three Consul servers, three proxies, three Dovecots and 300 users, and one fault after another at random; ./test has a
# short form with isolated = "hold". Every run prints its seed: CHAOS_SEED=n CHAOS_ISOLATED=serve CHAOS_MINUTES=60 make chaos
chaos:
	CHAOS_MINUTES=$${CHAOS_MINUTES-30} ./test -timeout 24h -v -run OneUserOneBackend ./e2e/chaos

# Backends that are killed, restarted, stopped and cut off under 500 clients that work and 1,500 that are parked; ./test has
# a short form. The last lines of each test are the figures of docs/performance.md. Put TMPDIR on a tmpfs where the disk is slow.
restarts:
	RESTARTS_LONG=1 ./test -timeout 1h -parallel 1 -v ./e2e/restarts

# Three upgrades in a row while 200 clients a second log in and 500 work; ./test has a short form. Put TMPDIR on a tmpfs where the disk
# is slow.
upgrade:
	UPGRADE_LONG=1 ./test -timeout 1h -v -run 'TestUpgradeUnderLoad$$' ./e2e

# All interleavings of the rules by which proxies agree: the sequences of three fleets that say most, then all of two
# fleets at three backends. Minutes. With three proxies (-proxies 3) it takes hours.
epochs:
	go run ./routing/agree/epochs -all=false
	go run ./routing/agree/epochs -epochs 2 -backends 3

# The same rules as the product has them, with faults, in as many simulated worlds as you like. One world in all its
# steps: SEED=n go test -v -run OneWorld ./routing/agree
SEEDS ?= 100000
simulate:
	SEEDS=$(SEEDS) go test -count=1 -timeout 0 -v -run 'TestSimulation$$' ./routing/agree

# What outsiders can do to others' logins, in figures (docs/security.md). PROXY=FILE measures
# another build.
attack:
	ATTACK_PROXY="$(PROXY)" ./test -tags attack -v -run Attack ./e2e

# Thunderbird through the proxy: by a password and by OAuth, while its server is restarted and killed, compressed, and with a mailbox that a user of another server
# shares; and imapflow (Node.js). They are too big for ./test: 300 MB are installed.
clients:
	TEST_PACKAGES="thunderbird $$(command -v npm >/dev/null || echo nodejs npm)" ./test -tags thunderbird -v -run 'Thunderbird|ImapFlow' ./e2e/idlers

# The Debian package built twice, in two folders and with empty caches, is the same. Minutes.
reproducible:
	packaging/reproducible

bench:
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

# What idle clients take of the proxy's memory, what it costs when parked ones come back at once, and what small commands cost beside nginx and
# HAProxy (Debian's nginx, libnginx-mod-mail and haproxy): a null backend, the proxy and clients, each a process here. PROXY=FILE measures
# another build; LOAD has more flags (go run ./e2e/load memory -h). The figures are of a machine that does nothing else.
LOAD ?=

.load/imapproxy .load/load: FORCE
	go build -o .load/ ./cmd/imapproxy ./e2e/load
FORCE:

memory: .load/load
	.load/load memory -proxy $(or $(PROXY),.load/imapproxy) -n 9000 -attached $(LOAD)
	for watch in push notify idle; do .load/load memory -proxy $(or $(PROXY),.load/imapproxy) -n 9000 -watch $$watch $(LOAD) || exit 1; done
	.load/load memory -proxy $(or $(PROXY),.load/imapproxy) -n 18000 -watch push $(LOAD)

resume: .load/load
	.load/load resume -proxy $(or $(PROXY),.load/imapproxy) -n 9000 -rounds 3 $(LOAD)
	.load/load resume -proxy $(or $(PROXY),.load/imapproxy) -n 9000 -rounds 3 -attached $(LOAD)

# What COMPRESS saves a client, and what it costs in processor time and memory, beside a Dovecot's own COMPRESS. The last lines of each test are the
# figures of docs/performance.md.
compression:
	FIGURES=1 ./test -tags figures -timeout 1h -v -run FigureCompress ./e2e

peers: .load/load
	.load/load peers -proxy $(or $(PROXY),.load/imapproxy) $(LOAD)

# Each fuzz target for FUZZTIME, one after the other: go test takes one at a time.
fuzz:
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    echo "== $$target in $$(dirname $$file) for $(FUZZTIME)"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
	  done; \
	done
