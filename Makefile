# The two commands a newcomer needs are `make run` and `make test`.
.PHONY: test check help

help: ## What there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

test: ## Set up, then every test: Rust, TypeScript, end to end; ends with a summary
	@scripts/test

check: ## Fast: format, clippy with warnings denied, the house's rules, types
	@scripts/check
