# Two commands matter: `make demo` shows the whole thing working, `make test` runs every check.
.DEFAULT_GOAL := help

.PHONY: help demo test
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Tell the story: one agent, one ticket, and everything that must not work
	@scripts/demo

test: ## Format, lints, unit, property and end-to-end tests; installs what they need
	@scripts/test
