# Needs Go, gcc, make and git; no GPU, no containers. `make help` lists what there is to do.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # what runs here is parallel in itself
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO ?= go
# Go's defaults, without the 147 lines in which NVIDIA's header calls itself deprecated.
export CGO_CFLAGS ?= -g -O2 -Wno-deprecated-declarations
# Every go.mod of the repository: ., and the nested modules that keep heavy requirements out of it.
MODULES = $(patsubst %/,%,$(dir $(shell find . -name go.mod -not -path '*/.*' -not -path '*/testdata/*')))

# What bin/controller-gen makes of the types in api/v1alpha1.
GENERATORS = object crd paths=./api/v1alpha1

# Passed on to the program that the target runs.
DEMO_FLAGS ?=
BENCH_FLAGS ?=
TEST_FLAGS ?=
LINT_FLAGS ?=
# Whether test-browser fails without a browser (require) or says so and goes on (fetch).
TEST_BROWSER ?= require
# A directory of traces for the benchmarks that take one.
TRACES ?=

##@ Try it

.PHONY: demo
demo: build ## Bring up a real control plane with simulated GPU nodes and watch the HPA scale (DEMO_FLAGS="--keep --json FILE")
	bin/headroom-lab demo $(DEMO_FLAGS)

.PHONY: demo-scaler
demo-scaler: build ## Play days of demand to a stock HPA and a ScalePolicy side by side, for 38 minutes (DEMO_FLAGS="--html FILE --json FILE")
	bin/headroom-lab demo scaler $(DEMO_FLAGS)

.PHONY: demo-rollout
demo-rollout: build ## Bring good and bad versions to a canary and see each judged; fails if one is judged wrong; seven minutes (DEMO_FLAGS="-o json --only errors")
	bin/headroom-lab demo rollout $(DEMO_FLAGS)

##@ Build and test

.PHONY: build
build: ## Build the commands into bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: test
test: TEST_BROWSER = fetch
test: test-unit test-browser test-e2e ## Run every test: unit, scenario, in a browser and end to end

.PHONY: test-unit
test-unit: ## Run what needs no lab; seconds when warm (TEST_FLAGS="-run X -v")
	@packages=$$($(GO) list ./...); \
	$(GO) test $(TEST_FLAGS) $$(printf '%s\n' "$$packages" | grep -vE '/lab/e2e(/|$$)')

.PHONY: test-race
test-race: ## Run what needs no lab under the race detector
	@$(MAKE) test-unit TEST_FLAGS="-race $(TEST_FLAGS)"

.PHONY: test-e2e
test-e2e: build ## Run the end-to-end tests in a lab of their own; builds the control plane once (TEST_FLAGS="-run X -v")
	bin/headroom-lab prepare # go test shows nothing of a package until its end
	$(GO) test -p 1 ./lab/e2e/... -count=1 -timeout 25m $(TEST_FLAGS) # one lab's tests at a time: two cores do not carry the promises of seconds of several

.PHONY: test-browser
test-browser: ## Look at the reports' pages in headless Chromium (Debian's package, fetched once if there is none); half a minute
	HEADROOM_TEST_BROWSER=$(TEST_BROWSER) $(GO) test ./recommender/report -count=1 -run TestBrowser $(TEST_FLAGS)

.PHONY: test-rollout-faults
test-rollout-faults: ## Play 500 random schedules of faults to a rollout in virtual time; a minute (HEADROOM_SEED=N repeats one)
	HEADROOM_FAULTS=all $(GO) test ./rollout/simulate -count=1 -v -run 'TestFaults$$' $(TEST_FLAGS)

.PHONY: test-faults
test-faults: build ## Run the faults that are too heavy for test-e2e: 2,000 pods replaced at once, a rule on 10⁶ series; five minutes
	bin/headroom-lab prepare
	HEADROOM_E2E_SCALE=full $(GO) test ./lab/e2e/... -count=1 -timeout 40m -v -run 'TestManyPodsReplaced|TestMillionSeries' $(TEST_FLAGS)

.PHONY: test-servers
test-servers: build ## Run the same rules over the embedded store, Prometheus and VictoriaMetrics (Debian's packages); three minutes
	bin/headroom-lab prepare
	HEADROOM_E2E_SCALE=full $(GO) test ./lab/e2e/... -count=1 -timeout 20m -v -run TestPrometheusCompatibleServers $(TEST_FLAGS)

.PHONY: test-recommender-lab
test-recommender-lab: build ## Right-size services end to end, with metrics-server and the VPA's updater and admission controller; builds them once; six minutes
	bin/headroom-lab prepare --rightsizing
	HEADROOM_E2E_SCALE=full $(GO) test ./lab/e2e/rightsizing -count=1 -timeout 20m -v $(TEST_FLAGS)

.PHONY: test-hold
test-hold: build ## Hold rolling updates at a mix of two versions, break the hold in every known way, write docs/rollout-hold.md; more than eight minutes (TEST_FLAGS="-run TestHold/together/undo")
	bin/headroom-lab prepare
	HEADROOM_E2E_SCALE=full HEADROOM_HOLD_REPORT=$(CURDIR)/docs/rollout-hold.md $(GO) test ./lab/e2e/hold -count=1 -timeout 30m -v $(TEST_FLAGS)

.PHONY: test-rollout-lab
test-rollout-lab: build ## Update workloads by RolloutPolicies in a lab, with what test leaves out: other kinds, lost records, an API server that goes; eight minutes
	bin/headroom-lab prepare
	HEADROOM_E2E_SCALE=full $(GO) test ./lab/e2e/rollout -count=1 -timeout 30m -v -skip 'TestRolloutControllerDies$$' $(TEST_FLAGS)

.PHONY: test-rollout-crashes
test-rollout-crashes: build ## Kill the controller of RolloutPolicies after every write of every kind of update; 25 minutes (TEST_FLAGS="-run TestRolloutControllerDies/rolling")
	bin/headroom-lab prepare
	HEADROOM_E2E_SCALE=full $(GO) test ./lab/e2e/rollout -count=1 -timeout 60m -v -run 'TestRolloutControllerDies$$' $(TEST_FLAGS)

.PHONY: test-hpa-exact
test-hpa-exact: ## Hold scaler/hpa to the stock HPA controller, a simulated week per scenario; five minutes (TEST_FLAGS="-days 1 -seed 7")
	cd scaler/hpa/exact && $(GO) test -count=1 -timeout 60m -v $(TEST_FLAGS)

.PHONY: test-gpu
test-gpu: ## On a machine with an NVIDIA GPU: hold what is read to nvidia-smi and known kernels, write docs/nvml-costs.md; three minutes
	HEADROOM_TEST_GPU=1 HEADROOM_NVML_COSTS=$(CURDIR)/docs/nvml-costs.md $(GO) test ./gpu/nvml -count=1 -v -run 'TestHardware$$' $(TEST_FLAGS)

.PHONY: test-kpa-exact
test-kpa-exact: ## Drive Knative's own autoscaler and scaler/kpa through the same weeks; five minutes (TEST_FLAGS="-seed 7 -run X")
	$(GO) -C scaler/kpa/exact test . -count=1 -timeout 40m -v $(TEST_FLAGS)

.PHONY: test-vpa-exact
test-vpa-exact: ## Hold recommender/vpa to the VPA's own code on fuzzed streams: streams, comparisons, differences; two minutes (TEST_FLAGS="-seed 7 -streams 100")
	$(GO) -C recommender/vpa/exact test . -count=1 -timeout 40m -v $(TEST_FLAGS)

.PHONY: test-placement-exact
test-placement-exact: ## Hold rollout/placement to the stock scheduler's filters on random clusters, and see that differences are found; five minutes (TEST_FLAGS="-seed 7 -clusters 100")
	$(GO) -C rollout/placement/exact test . -count=1 -timeout 40m -v $(TEST_FLAGS)

##@ Measure

.PHONY: bench-loop
bench-loop: build ## Time a load step to its metric, the HPA's decision and the first Ready pod; 20 minutes (BENCH_FLAGS="--repetitions 3")
	$(GO) run ./bench/loop $(BENCH_FLAGS)

.PHONY: bench-adapter
bench-adapter: ## Compare the adapter with Prometheus and prometheus-adapter on the same targets; 25 minutes (BENCH_FLAGS=--short: 5)
	$(GO) run ./bench/adapter $(BENCH_FLAGS)

.PHONY: bench-agent
bench-agent: ## Measure what the agent costs a node: CPU, memory, a scrape; six minutes (BENCH_FLAGS="--length 20s")
	$(GO) run ./bench/agent $(BENCH_FLAGS)

.PHONY: bench-scaler
bench-scaler: ## Tune every policy on one half of each trace, score it on the other; TRACES=DIR for traces, else synthetic; 30 minutes (BENCH_FLAGS="-only daily -startup 180s")
	TRACES=$(TRACES) $(GO) run ./bench/scaler $(BENCH_FLAGS)

.PHONY: bench-forecast
bench-forecast: ## Score the demand forecasts against last value, with coverage; TRACES=DIR for traces, else synthetic; seconds
	TRACES=$(TRACES) $(GO) run ./bench/forecast $(BENCH_FLAGS)

.PHONY: bench-recommender
bench-recommender: ## Hold the recommender to the VPA's library: what a container costs, and the fit on TRACES=DIR, else synthetic; 10 minutes (BENCH_FLAGS="-only scale|accuracy|gpu -short")
	TRACES=$(abspath $(TRACES)) $(GO) -C bench/recommender run . -results $(CURDIR)/bench/results $(BENCH_FLAGS)

.PHONY: bench-rollout
bench-rollout: ## Judge 10,000 simulated rollouts beside thresholds, Kayenta's judge and a z-test; plan for 5,000 nodes; 5 minutes (BENCH_FLAGS="-only judge|plan -short")
	$(GO) run ./bench/rollout $(BENCH_FLAGS)

.PHONY: bench-placement-exact
bench-placement-exact: ## Time the stock scheduler's filters over 5,000 nodes and 50,000 pods beside rollout/placement; two minutes
	$(GO) -C rollout/placement/exact test . -count=1 -timeout 10m -v -run 'TestCost$$' -args -cost

.PHONY: bench-rollout-lab
bench-rollout-lab: build ## Update a service under load on 8, 9, 10 and 16 GPUs: Kubernetes' strategies beside a RolloutPolicy's; 45 minutes (BENCH_FLAGS="-gpus 9 -only 50/s")
	bin/headroom-lab prepare
	$(GO) run ./bench/rollout/lab $(BENCH_FLAGS)

##@ Keep tidy

.PHONY: lint
lint: bin/golangci-lint ## Check the code and its formatting; builds the pinned golangci-lint once
	bin/golangci-lint config verify
	bin/golangci-lint run ./... $(LINT_FLAGS)

.PHONY: fmt
fmt: bin/golangci-lint ## Format the code
	bin/golangci-lint fmt

.PHONY: tidy
tidy: ## Tidy go.mod and go.sum of every module
	@for module in $(MODULES); do echo "$$module: go mod tidy"; $(GO) -C $$module mod tidy; done

.PHONY: generate
generate: bin/controller-gen ## Generate deep copies and CustomResourceDefinitions from api/
	bin/controller-gen $(GENERATORS) output:crd:dir=manifests/crds

.PHONY: verify
verify: bin/controller-gen ## Check that every module is tidy and generated files are current; changes nothing
	@status=0; for module in $(MODULES); do \
	  echo "$$module: go mod tidy -diff"; $(GO) -C $$module mod tidy -diff || status=1; \
	done; \
	echo "generated files: diff"; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	bin/controller-gen $(GENERATORS) output:crd:dir=$$fresh/crds output:object:dir=$$fresh/api; \
	diff -ruN -x kustomization.yaml manifests/crds $$fresh/crds || status=1; \
	diff -u api/v1alpha1/zz_generated.deepcopy.go $$fresh/api/zz_generated.deepcopy.go || status=1; \
	exit $$status

.PHONY: clean
clean: ## Delete what was built and measured here; the lab's cache of control-plane binaries stays
	rm -rf bin bench/results

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-zA-Z0-9_-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `tool` stands for the tools that the module's go.mod names; minutes on two cores, then cached.
bin/golangci-lint: tools/go.mod tools/go.sum
	@echo "building golangci-lint (about three minutes on two cores, once)"
	@$(GO) build -C tools -trimpath -o $(CURDIR)/bin/ tool
	@touch $@

bin/controller-gen: tools/codegen/go.mod tools/codegen/go.sum
	@$(GO) build -C tools/codegen -trimpath -o $(CURDIR)/bin/ tool
	@touch $@
