#!/usr/bin/env bash
# Runs the clients of each folder that is named, in its environment; OpenAI's own SDK where that environment has it.
set -euo pipefail
cd "$(dirname "$0")"
unset PYTHONPATH
for name in "$@"; do
  bin=../../.cache/clients/$name/bin
  tests=(test_network.py)
  "$bin/python" -c 'import openai' 2>/dev/null && tests+=(test_openai_sdk.py test_openai_responses.py)
  # A folder of requirements alone has no clients of its own.
  compgen -G "$name/test_*.py" >/dev/null && tests+=("$name")
  "$bin/pytest" -c pytest.ini "${tests[@]}"
done
