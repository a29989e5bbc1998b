#!/usr/bin/env bash
# Makes .cache/clients/NAME for each folder here that is named, anew only where a file of that folder changed. A folder has
# requirements of Python, and where clients are in JavaScript a package.json with its lock, installed into NAME/modules.
# uv is some ten times as fast as pip here; the environment that runs the server is left alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/clients
export UV_CACHE_DIR=$cache/uv-cache
# What pip is told by its own variable, uv is told by another.
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
mkdir -p "$cache"
if ! test -x "$cache/uv/bin/uv"; then
  "${PYTHON:-python3}" -m venv "$cache/uv"
  "$cache/uv/bin/python" -m pip install --quiet 'uv>=0.9,<1'
fi
for name in "$@"; do
  wanted=$here/$name
  target=$cache/$name
  state=$(find "$wanted" -name '*.txt' -o -name 'package*.json' | sort | xargs cat | sha256sum)
  test "$(cat "$target/.ready" 2>/dev/null)" = "$state" && continue
  "$cache/uv/bin/uv" venv --quiet --clear --python "$cache/uv/bin/python" "$target"
  "$cache/uv/bin/uv" pip install --quiet --python "$target/bin/python" \
    --requirement "$wanted/requirements.txt" --constraint "$wanted/constraints.txt"
  if test -f "$wanted/package.json"; then
    mkdir -p "$target/modules"
    cp "$wanted/package.json" "$wanted/package-lock.json" "$target/modules"
    # Scripts of packages are not run: all that is needed lies in the packages themselves.
    (cd "$target/modules" && PATH="$target/bin:$PATH" npm ci --silent --ignore-scripts --cache "$cache/npm-cache")
  fi
  echo "$state" >"$target/.ready"
done
