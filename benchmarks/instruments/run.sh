#!/usr/bin/env bash
# Serves the guard, has others' instruments look at it, and stops it: run.sh on|off INSTRUMENT...
# Instruments: inspect, lm-eval, garak, each in its environment of tests/clients/set_up.sh. See README.md for variables.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
guard=$1
shift
limit=${LIMIT:-20}
output=${OUTPUT:-$root/instruments}/$guard
clients=$root/.cache/clients
serve=${SERVE:-$root/.venv/bin/stars-guard}
case $guard in
  on) config=${CONFIG:-$here/guarded.yaml} ;;
  off) config=$here/unguarded.yaml ;;
  *) echo "say whether the guard is on or off" >&2; exit 2 ;;
esac
mkdir -p "$output"
servers=()
# Only what was started here is stopped.
stop() {
  local server
  for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
}
trap stop EXIT

# Serves a configuration on a port that is free, and says where in $url.
started() {
  local log=$output/$2.log
  rm -f "$log"  # one of an earlier run would name its port
  $serve serve --port 0 --config "$1" >"$log" 2>&1 &
  servers+=($!)
  until url=$(grep --only-matching --max-count 1 'http://[^ ]*/v1' "$log" 2>/dev/null); do
    kill -0 "${servers[-1]}" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.2
  done
}

started "$here/unguarded.yaml" judge
judge=$url
started "$config" guard

export OPENAI_API_KEY=${KEY:-none} OPENAICOMPATIBLE_API_KEY=${KEY:-none} STARS_API_KEY=${KEY:-none}
model=${MODEL:-stars-guard}

inspect() {
  for task in xstest harmful_requests; do
    (cd "$output" && STARS_BASE_URL=$url "$clients/evaluators/bin/inspect" eval "$here/inspect_tasks.py@$task" \
      --model "openai-api/stars/$model" --max-tokens "${MAX_TOKENS:-64}" --max-connections 8 --limit "$limit" \
      -T judge_url="${JUDGE_URL:-$judge}" ${GRADER:+-T grader="$GRADER"} --display plain --log-dir "$output/inspect")
  done
}

lm_eval() {
  mkdir -p "$output/tasks"
  # A task's file of prompts must be named by its whole path.
  sed "s|^dataset_path: json|&\ndataset_kwargs: {data_files: {test: $root/stars_guard/evaluation/tasks/sets/xstest-safe.jsonl}}|" \
    "$here/lm_eval/xstest_safe.yaml" >"$output/tasks/xstest_safe.yaml"
  HF_DATASETS_CACHE=$output/datasets "$clients/evaluators/bin/lm_eval" run --model local-chat-completions \
    --model_args "model=$model,base_url=$url/chat/completions,tokenizer_backend=None,num_concurrent=8" \
    --include_path "$output/tasks" --tasks "${TASKS:-xstest_safe}" --limit "$limit" --apply_chat_template \
    --log_samples --output_path "$output/lm-eval"
}

garak() {
  sed "s|URL|$url|" "$here/garak.json" >"$output/garak.json"
  # Probes whose detectors look for the injected words themselves, not for the lack of a refusal.
  printf 'run: {soft_probe_prompt_cap: %s}\n' "$limit" >"$output/garak.yaml"
  XDG_DATA_HOME=$output XDG_CACHE_HOME=$output XDG_CONFIG_HOME=$output "$clients/garak/bin/python" -m garak \
    --config "$output/garak.yaml" --target_type openai.OpenAICompatible --target_name "$model" \
    --generator_option_file "$output/garak.json" --generations 1 \
    --probes "${PROBES:-encoding.InjectBase64,encoding.InjectROT13,promptinject.HijackHateHumans}" \
    --report_prefix "$output/garak/$guard"
}

for instrument in "$@"; do
  "${instrument//-/_}"
done
