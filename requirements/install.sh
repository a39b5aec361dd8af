#!/usr/bin/env bash
# Brings $VENV to what the lock says. Called by make with PYTHON and VENV set.
#
# The stamp is the hash of everything that decides the result and is written last, so an interrupted
# install is not mistaken for a finished one and the next run starts it anew.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "aidos: $*" >&2; exit 1; }

supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
if [ -z "${PYTHON:-}" ]; then
  for candidate in python3.11 python3 python3.12 python3.13; do
    if "$candidate" -c "$supported" 2>/dev/null; then PYTHON=$(command -v "$candidate"); break; fi
  done
fi
[ -n "${PYTHON:-}" ] || fail "no Python 3.11, 3.12 or 3.13 on PATH (python3 is $(python3 -V 2>&1 || echo absent)). Install one, or: make PYTHON=/path/to/python3.11"
"$PYTHON" -c "$supported" || fail "$PYTHON is $("$PYTHON" -V 2>&1); AI-DOS needs Python 3.11, 3.12 or 3.13."
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$PYTHON has no venv module; install it (Debian: apt-get install python3-venv) and repeat."

want=$("$PYTHON" - <<'PYTHON'
import hashlib, pathlib, sys, tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
parts = [project["project"], project["build-system"], project["tool"]["setuptools"], sys.version_info[:2], pathlib.Path.cwd()]
files = [pathlib.Path(f"requirements/{name}.txt").read_bytes() for name in ("lock", "torch")]
print(hashlib.sha256(repr(parts).encode() + b"".join(files)).hexdigest())
PYTHON
)
stamp="$VENV/.installed"
[ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && exit 0

# Two `make` at once: the second waits for the first and then finds the work done.
mkdir -p build
exec 9>build/install.lock
if command -v flock >/dev/null; then flock 9; fi
[ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && exit 0
rm -f "$stamp"

started=$(date +%s)
say() { echo "aidos: $* ($(($(date +%s) - started)) s)"; }

# pip takes a half-copied package for an installed one, so what an interrupted install left is thrown away.
unfinished="$VENV/.installing"
if [ -e "$unfinished" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
  say "making $VENV with $("$PYTHON" -V)"
  rm -rf "$VENV"
  "$PYTHON" -m venv "$VENV"
fi
touch "$unfinished"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

say "installing torch"
pip install --quiet --no-input -r requirements/torch.txt
say "installing $(grep -c '^[a-z0-9].*==' requirements/lock.txt) locked packages"
pip install --quiet --no-input --require-hashes --no-deps -r requirements/lock.txt
say "installing aidos itself"
pip install --quiet --no-input --no-deps --no-build-isolation --editable .
rm -f "$unfinished"
echo "$want" >"$stamp"
say "installed"
