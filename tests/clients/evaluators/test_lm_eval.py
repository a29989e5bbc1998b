"""EleutherAI's lm-evaluation-harness: tasks of generated text, over chats and over raw completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scenario
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from running import Server

QUESTIONS = {scenario.GARDEN: scenario.ANSWER, scenario.HARM: scenario.REFUSAL}


def evaluated(
    server: Server, model: str, page: str, folder: Path, questions: dict[str, str]
) -> dict[str, Any]:
    """The results of a task of its own, whose questions come from a file."""
    documents = folder / "questions.jsonl"
    rows = ({"question": question, "answer": answer} for question, answer in questions.items())
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "questions",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(documents)}, "cache_dir": str(folder)},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 200, "temperature": 0},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    arguments = {"model": Server.model, "base_url": f"{server.base_url}/{page}", "tokenizer_backend": None}
    return simple_evaluate(
        model=model,
        model_args={**arguments, "tokenized_requests": False, "max_retries": 1},
        tasks=[task],
        # Without it, its thousands of tasks would be read each time.
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=page == "chat/completions",
        bootstrap_iters=0,
        log_samples=True,
    )


@pytest.mark.parametrize(
    ("model", "page"),
    [("local-chat-completions", "chat/completions"), ("local-completions", "completions")],
)
class TestLmEval:
    @pytest.fixture(autouse=True)
    def _known(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", server.key)

    def test_generated_text_is_what_was_accepted(
        self, server: Server, tmp_path: Path, model: str, page: str
    ) -> None:
        told = evaluated(server, model, page, tmp_path, QUESTIONS)
        answers = [sample["filtered_resps"][0] for sample in told["samples"]["questions"]]
        assert sorted(answers) == sorted(QUESTIONS.values())
        assert told["results"]["questions"]["exact_match,none"] == 1.0
        assert sorted(one["outcome"] for one in server.served(2)) == ["answered", "refused"]

    @pytest.mark.parametrize(("key", "prompt"), [("sk-wrong", scenario.GARDEN), (None, scenario.TOO_LONG)])
    def test_what_the_server_refuses_ends_the_evaluation(
        self,
        server: Server,
        tmp_path: Path,
        model: str,
        page: str,
        key: str | None,
        prompt: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if key:
            monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(Exception, match=r"Client Error|40[01]"):
            evaluated(server, model, page, tmp_path, {prompt: ""})
        assert {one["outcome"] for one in server.forget()} == {"rejected"}
