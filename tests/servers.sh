#!/usr/bin/env bash
# The tiers that start servers, both at once: the Ray tiers mostly wait, and the postgres tier takes the processors that they leave.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-.venv/bin}
started=$(date +%s)
out=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -f "$out"' EXIT

nice "$bin/python" -m pytest -q -m postgres -n "${WORKERS:-2}" --dist worksteal ${PYTEST_ARGS:-} >"$out" 2>&1 & postgres=$!
"$bin/python" -m pytest -q -m "ray or e2e" ${PYTEST_ARGS:-} & ray=$!  # one process: a session shares one cluster
wait "$ray"; ray=$?
wait "$postgres"; postgres=$?
echo "== postgres tier"
cat "$out"
echo "servers: $(($(date +%s) - started)) s"
exit $((ray ? ray : postgres))
