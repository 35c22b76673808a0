#!/bin/sh
# Prints the path of a Python that can run this project (3.13 or later), or says how to get one.
# PYTHON=/path/to/python overrides the search.
set -u

suits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 13))' >/dev/null 2>&1; }

real() { "$1" -c 'import sys; print(sys.executable)'; }

if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" && { real "$PYTHON"; exit 0; }
    command -v "$PYTHON" >/dev/null 2>&1 || { echo "error: PYTHON=$PYTHON does not exist." >&2; exit 1; }
    echo "error: PYTHON=$PYTHON is $("$PYTHON" --version 2>&1), not Python 3.13 or later with venv and pip." >&2
    exit 1
fi
for candidate in python3.13 python3.14 python3.15 python3 python; do
    suits "$candidate" && { real "$candidate"; exit 0; }
done
# Version managers keep theirs off the PATH until asked.
if command -v pyenv >/dev/null 2>&1; then
    for version in $(pyenv versions --bare 2>/dev/null | sort -r); do
        candidate="$(PYENV_VERSION=$version pyenv which python3 2>/dev/null)" || continue
        suits "$candidate" && { real "$candidate"; exit 0; }
    done
fi
if command -v uv >/dev/null 2>&1; then
    candidate="$(uv python find --no-python-downloads '>=3.13' 2>/dev/null)" && suits "$candidate" && { real "$candidate"; exit 0; }
fi
found="$(python3 --version 2>/dev/null)" || found="not there"
echo "error: no Python 3.13 or later found on the PATH, in pyenv or in uv (python3 is $found). Install one from https://www.python.org/downloads/ (on Debian and Ubuntu with python3-venv), or name it: make PYTHON=/path/to/python3.13 ..." >&2
exit 1
