#!/usr/bin/env bash
# Resolves requirements/lock.txt again, with hashes, for every Python that AI-DOS runs on. UPGRADE=1 takes newer versions.
#
# torch stays out of the lock: which build (and which GPU libraries) is right depends on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${UV:-}" ]; then
  UV=build/lock/bin/uv
  [ -x "$UV" ] || { "${PYTHON:-python3}" -m venv build/lock; build/lock/bin/python -m pip install --quiet uv; }
fi
mkdir -p build
echo 'torch ; python_version < "3"' >build/without-torch.txt
"$UV" pip compile pyproject.toml requirements/base.in --group dev --override build/without-torch.txt \
  --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" \
  ${UPGRADE:+--upgrade} --quiet --output-file requirements/lock.txt
echo "aidos: $(grep -c '^[a-z0-9].*==' requirements/lock.txt) packages locked"
