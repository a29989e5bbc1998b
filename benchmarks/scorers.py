"""The scorers whose cost per candidate is compared, one of each kind that runs offline."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from stars_guard import embedded
from stars_guard.loading.parts import load_reward
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.bridges.scikit import SklearnReward
from stars_guard.rewards.classifiers.probe import ProbeReward
from stars_guard.rewards.combine import Minimum
from stars_guard.rewards.function import FunctionReward
from stars_guard.rewards.judges.judge import JudgeReward
from stars_guard.rewards.servers.remote import RemoteReward
from stars_guard.rewards.servers.template import json_format
from stars_guard.rewards.veto import Veto

WORDS = ("poison", "bomb", "kill", "hack", "steal")


@contextmanager
def all_scorers(model: TransformersModel, probe: ProbeReward) -> Iterator[dict[str, RewardModel]]:
    """By name; ``probe`` is the one that is given hidden states."""
    encoder, veto = load_reward(None, {}), Veto(WORDS)
    with _server() as address:
        yield {
            "function": FunctionReward(lambda prompt, response: 0.0, name="none"),
            "veto (5 words)": veto,
            "scikit-learn (hashed words, logistic regression)": SklearnReward(_pipeline(), good=1),
            "probe, states at hand": probe,
            "encoder (22 M parameters)": encoder,
            "minimum of veto and encoder": Minimum({"words": veto, "harmlessness": encoder}),
            "probe, reading the text itself": ProbeReward(probe.settings, probe.head, read=model.read_states),
            "judge (135 M chat model, yes or no)": JudgeReward.load(
                str(embedded.chat_model()), prompt="question"
            ),
            "remote JSON, over loopback": RemoteReward(
                address, json_format({"texts": "{items}"}, "scores.*", item="{response}")
            ),
        }


def _pipeline() -> object:
    texts = ["a plan, step by step", "think about what you need", "steal the money", "poison the well"]
    return make_pipeline(HashingVectorizer(n_features=2**12), LogisticRegression()).fit(texts, [1, 1, 0, 0])


@contextmanager
def _server() -> Iterator[str]:
    """Scores every text 0 at once, so that only the way there and back is measured."""

    class Zero(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"scores": [0.0] * len(request["texts"])}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Not on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Zero)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
