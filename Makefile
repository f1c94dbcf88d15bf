# The two commands a newcomer needs are `make run` and `make test`; each does all of its own set-up.
.PHONY: help run test test-firefox check bench fuzz
.DEFAULT_GOAL := help

help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## Everything in one process with a demo stream; ends with the address of a page to open
	@scripts/run

test: ## Every test: Rust, TypeScript, end to end in real browsers; ends with a summary
	@scripts/test

test-firefox: ## Firefox watches the demo five times, in a network namespace (needs root); `make test` has it once
	@scripts/test-firefox

check: ## Fast: format, lints with warnings denied, the house's rules, types
	@scripts/check

bench: ## The benchmarks
	@scripts/bench

fuzz: ## Every fuzz target for a minute (needs a nightly)
	@scripts/fuzz
