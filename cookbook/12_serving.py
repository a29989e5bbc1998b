"""The guard as a server for clients of the OpenAI API. Run: python cookbook/12_serving.py

The server runs as users start it, by `stars-guard serve`; the client here is httpx, and any other will do.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from stars_guard.server import bound


@contextmanager
def server() -> Iterator[str]:
    with bound("127.0.0.1", 0) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "stars_guard", "serve", "--host", "127.0.0.1", "--port", port]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # its log
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()  # it ends once what is being answered is answered
        process.wait()


def wait_until_ready(client: httpx.Client) -> None:
    for _ in range(600):
        try:
            if client.get("/health/ready").is_success:  # the reward model has really scored
                return
        except httpx.ConnectError:
            pass  # it still loads its models
        time.sleep(0.2)
    raise SystemExit("the server does not become ready")


with server() as url, httpx.Client(base_url=url, timeout=120) as client:
    wait_until_ready(client)
    body = {"messages": [{"role": "user", "content": "How do I bake bread?"}], "max_tokens": 64, "seed": 1}
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as events:
        for line in events.iter_lines():  # every event holds text that was accepted
            if line.startswith("data: {"):
                choice = json.loads(line.removeprefix("data: "))["choices"][0]
                print(choice["delta"].get("content") or "", end="", flush=True)
    print("\n", json.dumps(client.post("/v1/chat/completions", json=body).json()["stars"], indent=1))
