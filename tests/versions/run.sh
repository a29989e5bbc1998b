#!/usr/bin/env bash
# Runs, in each environment that is named, what depends on the versions in it: the standard suites of both frameworks,
# and of the core models, rewards, adapters, loading and the server. MARKS chooses among the tests, as pytest's -m does.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
export OMP_NUM_THREADS=1 STARS_GUARD_CACHE=${STARS_GUARD_CACHE:-$root/.cache/stars_guard}
unset PYTHONPATH

# What an older package says of a newer one is nobody's fault here; with the newest, every warning is an error.
suite() {
  local python=$root/.cache/versions/$1/bin/python folder=$2 warnings=()
  case $1 in oldest*) warnings=(-W ignore::DeprecationWarning) ;; esac
  shift 2
  (cd "$folder" && "$python" -m pytest -n "${WORKERS:-logical}" --dist worksteal -p no:cacheprovider "${warnings[@]}" \
    -m "${MARKS:-}" "$@")
}

failed=0
for name in "$@"; do
  echo "$name:"
  case $name in
    *-torch | *-core) ;;
    *)
      suite "$name" integrations/langchain-stars-guard || failed=1
      suite "$name" integrations/llama-index-llms-stars-guard || failed=1
      ;;
  esac
  case $name in
    oldest) ;;
    *-torch) suite "$name" . tests/models/local tests/rewards/classifiers || failed=1 ;;
    *) suite "$name" . tests/models tests/adapters tests/rewards tests/loading tests/server || failed=1 ;;
  esac
done
exit "$failed"
