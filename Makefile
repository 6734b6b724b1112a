SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# All targets need Go 1.26 or later; test, goldens and bench also Node and npm.

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2
ACTIONLINT    := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
GORELEASER    := github.com/goreleaser/goreleaser/v2@v2.13.3
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.2.0

# The modules below this one have dependencies that its users must not get.
MODULES = test/consumer test/e2e test/e2e/tools tools/image

# What tests look at is more than the go command sees: -count=1 everywhere.
# Packages that reach jsii are tested without -race: jsii's own Close races.
# Tests that only look at more templates leave that to a run without -race: estatetest.Race.
JSII     = -e aws/jsii-runtime-go -e ekskms/internal/synth -e ekskms/internal/cli
PACKAGES = go list -f '{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./...
PURE     = $$($(PACKAGES) | grep -v $(JSII) | cut -d' ' -f1)
CDK      = $$($(PACKAGES) | grep $(JSII) | cut -d' ' -f1)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: node_modules format fresh vet test-pure test-cdk test-consumer test-e2e test-image test-bench release-check lint ## Install what is needed and pass all tests
	@echo "make test: all passed"

node_modules: package.json package-lock.json .npmrc
	npm ci
	@touch node_modules

.PHONY: format
format:
	@echo "== gofmt"
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi

# package-lock.json is held fresh by npm ci, generated files by the tests beside
# what generates them.
.PHONY: fresh
fresh:
	@echo "== go.mod and go.sum are tidy"
	go mod tidy -diff
	for m in $(MODULES); do (cd $$m && go mod tidy -diff); done

.PHONY: vet
vet:
	@echo "== go vet"
	go vet ./...
	for m in $(MODULES); do (cd $$m && go vet ./...); done

.PHONY: test-pure
test-pure: node_modules
	@echo "== tests without CDK, with the race detector"
	packages=$(PURE); go test -count=1 -race -timeout 20m $$packages
	@echo "== what the race detector makes too slow"
	go test -count=1 ./internal/check ./internal/guard ./internal/iampolicy ./internal/verify ./internal/report ./test/parity -run 'TestMutations|TestOpenings|TestConditions|TestStrangers|TestAgainstAllRequests|Unknown|TestBroken|TestDrifts|TestRefused|TestFleet'
	@command -v terraform >/dev/null || echo "SKIPPED: Terraform is not installed here: the modules were held to the provider's schema alone"

.PHONY: test-cdk
test-cdk: node_modules
	@echo "== tests with CDK"
	packages=$(CDK); go test -count=1 -timeout 20m $$packages

.PHONY: test-consumer
test-consumer:
	@echo "== a module that imports the library"
	cd test/consumer && CDK_VALIDATION=false go test -count=1 ./...

.PHONY: test-e2e
test-e2e:
	@echo "== real API servers, which are built first: minutes, once; the schemas of hosts; alerts; cdk-nag"
	cd test/e2e && CDK_VALIDATION=false go test -count=1 -timeout 40m -v ./... | grep -v -e '^=== RUN' -e '^=== PAUSE' -e '^=== CONT' -e '^ *--- PASS'

.PHONY: test-many
test-many: ## 100,000 secrets behind a real API server: start, list, rotation, migration (ten minutes)
	cd test/e2e && EKSKMS_E2E_SECRETS=100000 go test -count=1 -timeout 60m -v ./encryption -run TestManySecrets

.PHONY: test-image
test-image:
	@echo "== the image of kms-plugin, built without a container engine"
	cd tools/image && go test -count=1 ./...

.PHONY: release-check
release-check: ## Check the release configuration, and make with it what a release has for this machine
	@echo "== the release: archives, package, checksums, bills of materials"
	go run $(GORELEASER) check
	RELEASE_CHECK=1 go run $(GORELEASER) release --snapshot --clean --skip=sign,publish
	cd dist && sha256sum --check --quiet checksums.txt
	rm -rf dist/unpacked && mkdir dist/unpacked && cd dist/unpacked && ar p ../ekskms_*_linux_amd64.deb data.tar.gz | tar -xz
	dist/unpacked/usr/bin/ekskms version | grep -E '^ekskms v[0-9]'
	dist/unpacked/usr/bin/ekskms generate encryption-config | grep -q 'kind: EncryptionConfiguration'
	dist/kms-plugin_linux_amd64*/kms-plugin version | grep -E '^kms-plugin v[0-9]'
	grep -q 'aws-cdk-go/awscdk' dist/ekskms_*_linux_amd64.cdx.json
	! grep -q 'aws-cdk-go' dist/kms-plugin_*_linux_amd64.cdx.json

.PHONY: release
release: ## Make a release of the tag that is checked out, as a draft
	go run $(GORELEASER) release --clean

.PHONY: image
image: ## Build the image of kms-plugin into dist/, without a container engine
	cd tools/image && go run . -out ../../dist

.PHONY: base-image
base-image: ## Pin the newest base image in the Dockerfile: Docker asks its registry
	digest=$$(docker buildx imagetools inspect golang:1.26-alpine --format '{{.Manifest.Digest}}'); \
	sed -i -E "s|(golang:1.26-alpine)@sha256:[0-9a-f]+|\1@$$digest|" Dockerfile
	@echo "Now name its Go version in the comment above it."

# AWS as others have rebuilt it, from PyPI.
.cache/aws/installed: test/aws/requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "test-aws needs Python 3.11 or later"; exit 1; }
	rm -rf .cache/aws && python3 -m venv .cache/aws
	.cache/aws/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r test/aws/requirements.txt
	@touch $@

.PHONY: test-aws
test-aws: .cache/aws/installed ## Verify what real Terraform applies to moto and ministack, which are installed from PyPI
	@echo "== AWS as others have rebuilt it: moto, ministack"
	@command -v terraform >/dev/null || echo "SKIPPED: Terraform is not installed here, and nothing else applies the module"
	EKSKMS_AWS_VENV=$(CURDIR)/.cache/aws go test -tags aws -count=1 -timeout 30m ./test/aws

# Chromium is Debian's, or comes from npm.
PAGES = $(CURDIR)/.cache/pages

test/browser/node_modules: test/browser/package.json test/browser/package-lock.json
	cd test/browser && npm ci
	@touch $@

.PHONY: pages
pages:
	rm -rf $(PAGES) && mkdir -p $(PAGES)
	go run ./test/browser $(PAGES)

.PHONY: test-browser
test-browser: test/browser/node_modules pages ## Drive the page of 'ekskms report' in Chromium
	@echo "== the page in a browser: filters, links, print, keyboard, contrast and roles by axe-core"
	cd test/browser && PAGES=$(PAGES) node --test test.mjs

.PHONY: pictures
pictures: test/browser/node_modules ## Take the pictures of the docs: the page of five examples
	rm -rf $(PAGES) && mkdir -p $(PAGES)
	for e in 01_minimal 02_existing_vpc_and_key 03_node_group 04_tenants_and_secrets; do go run ./cmd/ekskms report --file examples/$$e/ekskms.yaml --out $(PAGES)/$$e.html; done
	go run ./cmd/ekskms report --file examples/06_fleet/fleet.yaml --out $(PAGES)/06_fleet.html
	cd test/browser && PAGES=$(PAGES) node pictures.mjs $(CURDIR)/docs/pictures

.PHONY: test-bench
test-bench: node_modules
	@echo "== the benchmarks compare like with like, and run"
	go run ./test/bench/synth -compare-only
	go run ./test/bench/plugin -quick >/dev/null

.PHONY: lint
lint: words ## Run golangci-lint, and look for words that DESIGN has better ones for
	@echo "== golangci-lint"
	@# Its cache knows a package by its content, and would answer with the paths of another checkout.
	GOLANGCI_LINT_CACHE=$(CURDIR)/.cache/golangci-lint go run $(GOLANGCI_LINT) run ./...
	@echo "== actionlint, of the workflows that are written, too"
	go run $(ACTIONLINT) -shellcheck= -pyflakes= .github/workflows/*.yaml $$(find internal/scaffold/testdata -path '*/workflows/*' -type f)

# tools/words.txt has the words, as patterns; what is generated follows its source.
.PHONY: words
words:
	@echo "== words"
	@! git grep -nPf tools/words.txt -- ':!tools/words.txt' ':!LICENSE' ':!CHANGELOG.md' ':!*package-lock.json' ':!*.golden*'

# A user's go mod tidy takes the newest awscdk, and Node is what the user has.
LATEST    = .cache/latest
NODE_NAME = node-$(shell go env GOOS)-$(subst amd64,x64,$(shell go env GOARCH))

.cache/node%:
	npm install --silent --no-save --no-package-lock --ignore-scripts --prefix $@.part $(NODE_NAME)@$*
	ln -s node_modules/$(NODE_NAME)/bin/node $@.part/node && chmod +x $@.part/node
	mv $@.part $@

.PHONY: test-latest
test-latest: .cache/node22 .cache/node24 ## Test against the newest awscdk that resolves, and on Node 22 and 24
	@echo "== a module without pins, with the newest awscdk"
	rm -rf $(LATEST) && mkdir -p $(LATEST) && cp test/consumer/*_test.go go.sum $(LATEST)
	cd $(LATEST) && go mod init example.com/consumer && go mod edit -replace github.com/ekskms/ekskms=../..
	@# The newest that a proxy names may not be there to download yet.
	cd $(LATEST) && for v in $$(go list -m -versions github.com/aws/aws-cdk-go/awscdk/v2 | tr ' ' '\n' | grep '^v2' | tac | head -5); do \
		if go mod download github.com/aws/aws-cdk-go/awscdk/v2@$$v; then go mod edit -require github.com/aws/aws-cdk-go/awscdk/v2@$$v; break; fi; \
	done
	cd $(LATEST) && go mod tidy
	cd $(LATEST) && go list -m github.com/aws/aws-cdk-go/awscdk/v2 github.com/aws/jsii-runtime-go github.com/aws/constructs-go/constructs/v10
	cd $(LATEST) && CDK_VALIDATION=false go test -count=1 ./...
	@for n in 22 24; do \
		export JSII_NODE=$$PWD/.cache/node$$n/node; \
		echo "== Node $$($$JSII_NODE --version)"; \
		go test -count=1 ./internal/synth; \
		for f in examples/*/ekskms.yaml; do \
			echo "$$f"; \
			go run ./cmd/ekskms synth -f $$f -o $(LATEST)/node$$n/$$(basename $$(dirname $$f)) >/dev/null; \
		done; \
	done
	rm -rf $(LATEST)
	@echo "make test-latest: all passed"

.PHONY: vuln
vuln: ## Run govulncheck, which asks its database over the network
	go run $(GOVULNCHECK) ./...

.PHONY: generate
generate: ## Generate what is generated: the JSON Schema, docs/reference/checks.md
	go generate ./...

.PHONY: goldens
goldens: ## Rewrite the golden files and the generated pages
	go test ./test/snapshot ./test/deps ./internal/verify ./internal/calls ./internal/config ./internal/manifest ./internal/keypolicy ./internal/inspect ./internal/terraform ./internal/cli ./internal/scaffold -update
	go test ./internal/explain ./internal/reveal ./test/parity -update # which read the templates
	cd test/e2e && CDK_VALIDATION=false go test ./nag -update

.PHONY: bench
bench: node_modules .cache/node24 ## Measure ekskms synth beside a JavaScript app that builds the same template
	go run ./test/bench/synth -node node -node .cache/node24/node

.PHONY: bench-fleet
bench-fleet: node_modules ## Measure ekskms synth of 1 to 1,000 clusters beside a JavaScript app
	go run ./test/bench/synth -fleet

.PHONY: bench-evidence
bench-evidence: ## Measure ekskms evidence beside zcat with grep, and jq, on the files of a busy account
	go test -run '^$$' -bench Read -benchtime 3x ./internal/evidence

.PHONY: bench-plugin
bench-plugin: ## Measure kms-plugin beside an empty KMS v2 server; PEER=path adds the binary of another plugin
	go run ./test/bench/plugin $(if $(PEER),-peer $(abspath $(PEER)))

.PHONY: soak
soak: ## Ten minutes of faults, in which no answer of the plugin may be wrong
	KMS_PLUGIN_SOAK=10m go test ./internal/kmsplugin -run TestSoak -v -count=1 -timeout 20m

.PHONY: fuzz
fuzz: ## Fuzz the parsers for half a minute each
	go test ./internal/config -run '^$$' -fuzz FuzzParse -fuzztime 30s
	go test ./internal/iampolicy -run '^$$' -fuzz FuzzParse -fuzztime 30s
	go test ./internal/iampolicy -run '^$$' -fuzz FuzzEvaluate -fuzztime 30s
	go test ./internal/cfn -run '^$$' -fuzz FuzzParse -fuzztime 30s
	go test ./internal/kmsplugin -run '^$$' -fuzz FuzzDecrypt -fuzztime 30s
	go test ./internal/inspect -run '^$$' -fuzz FuzzSnapshot -fuzztime 30s -fuzzminimizetime 10x
	go test ./internal/inspect -run '^$$' -fuzz FuzzValue -fuzztime 30s -fuzzminimizetime 10x
	go test ./internal/evidence -run '^$$' -fuzz FuzzRecords -fuzztime 30s

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf node_modules cdk.out bin dist test/e2e/bin
