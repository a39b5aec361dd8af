#!/usr/bin/env bash
# What every commit must pass, in under a minute: style, types, import contracts and the plain tests.
# Types and contracts run beside the tests; each prints only when it has something to say.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-.venv/bin}
started=$(date +%s)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$bin/mypy" >"$out/mypy" 2>&1 & mypy=$!
{ "$bin/ruff" check . && "$bin/ruff" format --check .; } >"$out/ruff" 2>&1; ruff=$?
"$bin/lint-imports" >"$out/imports" 2>&1; imports=$?
"$bin/python" -m pytest -q -m plain -p no:schemathesis -n "${WORKERS:-2}" --dist worksteal >"$out/tests" 2>&1; tests=$?
wait "$mypy"; mypy=$?

failed=0
report() {  # name, exit code, file
  if [ "$2" -eq 0 ]; then echo "ok      $1: $(tail -n 1 "$3")"; else echo "FAILED  $1"; cat "$3"; failed=1; fi
}
report "ruff" "$ruff" "$out/ruff"
report "mypy" "$mypy" "$out/mypy"
report "lint-imports" "$imports" "$out/imports"
report "plain tests" "$tests" "$out/tests"
echo "check: $(($(date +%s) - started)) s"
exit "$failed"
