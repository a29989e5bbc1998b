"""What a scoring server is sent, and how its answer is read: one :class:`RemoteFormat` a server.

===========================  ======================================  ====================
format                       endpoint                                inputs
===========================  ======================================  ====================
``vllm_classify``            vLLM ``/classify``                      text, response, chat
``vllm_pooling``             vLLM ``/pooling``                       text, response, chat
``vllm_pooling_last``        the same, one vector a token            text, response, chat
``vllm_score``               vLLM ``/score``                         pair
``sglang_classify``          SGLang ``/classify``                    text, response
``tei_predict``              text-embeddings-inference ``/predict``  pair, text, response
``openai_moderation``        ``/v1/moderations``                     response, text
``openai_moderation_flags``  the same, flags only                    response, text
===========================  ======================================  ====================

The first of the inputs is the default. ``text`` is prompt, line end, answer; ``response`` the answer alone;
``pair`` two texts; ``chat`` messages to which the server applies its model's chat template, an unfinished
answer being left open, one text an HTTP call. An empty text is sent as one blank, as servers refuse nothing.

The server's tokenizer takes control tokens that are spelled out in a text for real ones, so those that are
known are broken up by a blank (:mod:`stars_guard.text.control_tokens`); where others matter, serve a model
that reads plain text, or score locally.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.readout import Scale
from stars_guard.rewards.servers.scores import (
    AnswerError,
    ScoreRow,
    Unit,
    fields,
    items,
    number,
    number_list,
    row,
)
from stars_guard.settings import by_name
from stars_guard.text.turns import TemplateInput, alternating

Name = TypeVar("Name", bound=str)
BodyMaker: TypeAlias = Callable[[Sequence[ScoreRequest], str], dict[str, Any]]

_ALL: tuple[Scale, ...] = ("log_odds", "probability", "logit")


@dataclass(frozen=True, slots=True)
class RemoteFormat:
    """How one kind of server is asked.

    Attributes:
        body: makes the JSON body for some requests, given one of ``inputs``.
        rows: finds the numbers of each request in the parsed answer, in order; raises an
            ``AnswerError`` of ``scores``, saying what is wrong without quoting texts.
            Any other error is named by its type.
        inputs: how prompt and answer may be given; the first is the default.
        unit: what the numbers are.
        scales: what they can be turned into; the first is the default.
        logit_option: added to the body when scale ``logit`` is wanted, which makes ``unit`` a logit.
        batched: whether one HTTP call can carry several requests; ``chat`` never can.
        worst_of: the numbers are independent categories of harm, of which the worst counts.
    """

    body: BodyMaker
    rows: Callable[[Any], list[ScoreRow]]
    inputs: tuple[str, ...]
    unit: Unit
    scales: tuple[Scale, ...] = _ALL
    logit_option: Mapping[str, Any] = field(default_factory=dict)
    batched: bool = True
    worst_of: bool = False

    def largest_batch(self, inputs: str, wanted: int) -> int:
        """Most requests in one HTTP call, at most ``wanted``."""
        return wanted if self.batched and inputs != "chat" else 1

    def choose_inputs(self, wanted: str | None) -> str:
        """``wanted``, or the default.

        Raises:
            ConfigurationError: this server takes no such thing.
        """
        return _chosen("inputs", wanted, self.inputs)

    def choose_scale(self, wanted: str | None) -> Scale:
        """``wanted``, or the default.

        Raises:
            ConfigurationError: the server's numbers cannot be put on that scale.
        """
        return _chosen("scale", wanted, self.scales)


def choose_remote_format(format: str | RemoteFormat) -> RemoteFormat:
    """The format of that name.

    Raises:
        ConfigurationError: unknown name.
    """
    return by_name(RemoteFormat, "format", format, REMOTE_FORMATS, "what json_format() makes")


def _chosen(what: str, wanted: str | None, possible: tuple[Name, ...]) -> Name:
    if wanted is None:
        return possible[0]
    for name in possible:
        if name == wanted:
            return name
    raise ConfigurationError(f"{what}={wanted!r} does not fit this format; use {', '.join(possible)}")


def judged_messages(request: ScoreRequest) -> list[dict[str, str]]:
    """The messages, with the answer as the last turn unless it is empty, as any chat template takes them.

    What the server's own template takes is not known.
    """
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in request.prompt.as_messages()]
    answer = [{"role": "assistant", "content": request.response}] if request.response else []
    turns = alternating(TemplateInput([*messages, *answer])).turns
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _text(request: ScoreRequest, inputs: str) -> str:
    text = request.response if inputs == "response" else f"{request.prompt.as_text()}\n{request.response}"
    return text or " "


def _texts(requests: Sequence[ScoreRequest], inputs: str) -> list[str]:
    return [_text(request, inputs) for request in requests]


def _pair(request: ScoreRequest) -> list[str]:
    return [request.prompt.as_text() or " ", request.response or " "]


def _in_order(answer: Any) -> list[Any]:
    """``data`` of a vLLM answer, by ``index``."""
    data = items(fields(answer, "data"), "data")
    where = {number(fields(element, "index"), "index"): element for element in data}
    if sorted(where) != list(range(len(data))):
        raise AnswerError("the field index of data does not count from 0 without gaps")
    return [where[index] for index in range(len(data))]


def _vllm_body(requests: Sequence[ScoreRequest], inputs: str) -> dict[str, Any]:
    if inputs != "chat":
        return {"input": _texts(requests, inputs)}
    (request,) = requests
    return {
        "messages": judged_messages(request),
        "add_generation_prompt": not request.response,
        "continue_final_message": bool(request.response) and not request.finished,
    }


def _vllm_pooling(task: str) -> BodyMaker:
    def body(requests: Sequence[ScoreRequest], inputs: str) -> dict[str, Any]:
        return {"task": task, "use_activation": False, **_vllm_body(requests, inputs)}

    return body


def _vllm_last_rows(answer: Any) -> list[ScoreRow]:
    tokens = [items(fields(element, "data"), "data.data") for element in _in_order(answer)]
    if not all(tokens):
        raise AnswerError("there is no vector for the last token")
    return [number_list(vectors[-1], "data.data, last token") for vectors in tokens]


VLLM_CLASSIFY = RemoteFormat(
    body=_vllm_body,
    rows=lambda answer: [number_list(fields(element, "probs"), "probs") for element in _in_order(answer)],
    inputs=("text", "response", "chat"),
    unit="probability",
    logit_option=MappingProxyType({"use_activation": False}),
)
"""``{"input": [text]}`` or ``{"messages": [...]}`` to ``{"data": [{"index", "probs"}]}``.

Read from vLLM's ``entrypoints/pooling/classify/protocol.py`` and ``base/protocol.py`` (0.33). Scale ``logit``
asks for raw numbers with ``use_activation``; releases that do not know it ignore it and send probabilities.
SGLang's ``/v1/classify`` answers in the same form, but documents one text a call: set ``max_batch=1``.
"""

VLLM_POOLING = RemoteFormat(
    body=_vllm_pooling("classify"),
    rows=lambda answer: [number_list(fields(element, "data"), "data.data") for element in _in_order(answer)],
    inputs=("text", "response", "chat"),
    unit="logit",
)
"""``{"task": "classify", "input": [text]}`` to ``{"data": [{"index", "data": [number]}]}``.

Read from vLLM's ``entrypoints/pooling/pooling/protocol.py`` and ``tasks.py`` (0.33). For reward models that
pool a text to one vector, as ``...ForSequenceClassification`` do.
"""

VLLM_POOLING_LAST = replace(VLLM_POOLING, body=_vllm_pooling("token_classify"), rows=_vllm_last_rows)
"""Format ``vllm_pooling`` for ``...ForRewardModel``, which give a vector a token: the last token's is read.

Read from vLLM's page on pooling models: those models support the task ``token_classify`` alone.
"""

VLLM_SCORE = RemoteFormat(
    body=lambda requests, inputs: {
        "text_1": [_pair(request)[0] for request in requests],
        "text_2": [_pair(request)[1] for request in requests],
    },
    rows=lambda answer: [(number(fields(element, "score"), "score"),) for element in _in_order(answer)],
    inputs=("pair",),
    unit="probability",
    logit_option=MappingProxyType({"use_activation": False}),
)
"""``{"text_1": [prompt], "text_2": [answer]}``, paired by place, to ``{"data": [{"index", "score"}]}``.

Read from vLLM's ``entrypoints/pooling/scoring/protocol.py`` and the example ``openai_cross_encoder_score``.
"""

SGLANG_CLASSIFY = RemoteFormat(
    body=lambda requests, inputs: {"text": _texts(requests, inputs)},
    rows=lambda answer: [
        number_list(fields(element, "embedding"), "embedding") for element in items(answer, "answer")
    ],
    inputs=("text", "response"),
    unit="logit",
)
"""``{"text": [text]}`` to ``[{"embedding": [number]}]``, not activated.

Read from SGLang's ``docs/basic_usage/native_api.ipynb``, section "Classify (reward model)". It applies no
chat template.
"""


def _tei_body(requests: Sequence[ScoreRequest], inputs: str) -> dict[str, Any]:
    texts = [_pair(request) if inputs == "pair" else [_text(request, inputs)] for request in requests]
    # Cut on the server, an answer would lose its end, unseen: better an error.
    return {"inputs": texts, "raw_scores": True, "truncate": False}


def _tei_row(predictions: Any) -> ScoreRow:
    labels = [(fields(label, "label"), fields(label, "score")) for label in items(predictions, "predictions")]
    if len({str(label) for label, _ in labels}) != len(labels):
        raise AnswerError("a label comes twice")
    return {str(label): number(score, "score") for label, score in labels}


TEI_PREDICT = RemoteFormat(
    body=_tei_body,
    rows=lambda answer: [_tei_row(predictions) for predictions in items(answer, "answer")],
    inputs=("pair", "text", "response"),
    unit="logit",
)
"""``{"inputs": [[prompt, answer]], "raw_scores": true}`` to ``[[{"label", "score"}]]``, best label first.

Read from text-embeddings-inference's ``router/src/http/types.rs`` and ``server.rs``. Its limit of texts a
call is ``--max-client-batch-size`` (32 by default).
"""


def _moderation_results(answer: Any) -> list[Any]:
    return items(fields(answer, "results"), "results")


def _category_scores(result: Any) -> ScoreRow:
    scores = fields(result, "category_scores")
    if not isinstance(scores, Mapping):
        raise AnswerError("category_scores is not an object; for servers with flags only use their format")
    return row(scores, "category_scores")


def _flag(result: Any) -> ScoreRow:
    flagged = fields(result, "flagged")
    if not isinstance(flagged, bool):
        raise AnswerError("flagged is neither true nor false")
    return {"flagged": float(flagged)}


OPENAI_MODERATION = RemoteFormat(
    body=lambda requests, inputs: {"input": _texts(requests, inputs)},
    rows=lambda answer: [_category_scores(result) for result in _moderation_results(answer)],
    inputs=("response", "text"),
    unit="probability",
    scales=("log_odds", "probability"),
    worst_of=True,
)
"""``{"input": [text]}`` to ``{"results": [{"flagged", "category_scores"}]}``.

Read from OpenAI's API reference, "Create moderation". The reward is about the worst category (of those named
in ``bad``, or of all): its log-odds of not being met, or 1 minus its score.
"""

OPENAI_MODERATION_FLAGS = replace(
    OPENAI_MODERATION,
    rows=lambda answer: [_flag(result) for result in _moderation_results(answer)],
    scales=("probability",),
)
"""Moderation by servers that send ``flagged`` alone: 1 for a text that is not flagged, 0 for one that is."""

REMOTE_FORMATS: Mapping[str, RemoteFormat] = MappingProxyType(
    {
        "vllm_classify": VLLM_CLASSIFY,
        "vllm_pooling": VLLM_POOLING,
        "vllm_pooling_last": VLLM_POOLING_LAST,
        "vllm_score": VLLM_SCORE,
        "sglang_classify": SGLANG_CLASSIFY,
        "tei_predict": TEI_PREDICT,
        "openai_moderation": OPENAI_MODERATION,
        "openai_moderation_flags": OPENAI_MODERATION_FLAGS,
    }
)
