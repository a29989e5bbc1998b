#!/usr/bin/env bash
# Makes .cache/clients/NAME for every folder here that has requirements, anew only where a file of that folder changed.
# uv is some ten times as fast as pip here; the environment that runs the server is left alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/clients
export UV_CACHE_DIR=$cache/uv-cache
mkdir -p "$cache"
if ! test -x "$cache/uv/bin/uv"; then
  "${PYTHON:-python3}" -m venv "$cache/uv"
  "$cache/uv/bin/python" -m pip install --quiet 'uv>=0.9,<1'
fi
for wanted in "$here"/*/requirements.txt; do
  wanted=$(dirname "$wanted")
  target=$cache/$(basename "$wanted")
  state=$(cat "$wanted"/*.txt | sha256sum)
  test "$(cat "$target/.ready" 2>/dev/null)" = "$state" && continue
  "$cache/uv/bin/uv" venv --quiet --clear --python "$cache/uv/bin/python" "$target"
  "$cache/uv/bin/uv" pip install --quiet --python "$target/bin/python" \
    --requirement "$wanted/requirements.txt" --constraint "$wanted/constraints.txt"
  echo "$state" >"$target/.ready"
done
