"""Any JSON endpoint as a scoring server: a template of the body, and a path to the numbers in the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.servers.formats import RemoteFormat, judged_messages
from stars_guard.rewards.servers.scores import AnswerError, ScoreRow, Unit, fields, items, row

_ITEMS = "{items}"
_WHOLE = ("{messages}", "{finished}")  # not texts, so they cannot stand inside one
_PARTS = ("{prompt}", "{response}")
_INSIDE = re.compile("|".join(map(re.escape, _PARTS)))


def json_format(body: Any, scores: str, *, item: Any = None, unit: Unit = "logit") -> RemoteFormat:
    """A format for a server of your own.

    Texts in the template are replaced: ``{prompt}`` (the conversation as text) and ``{response}``, also
    inside a longer text; and, standing alone, ``{messages}`` (the conversation with the answer as its
    last turn, a list of ``role`` and ``content``) and ``{finished}`` (true or false). Other braces stay.
    What is put in is not looked at again, so that no prompt can name a placeholder.

    Several requests go into one call if the body has ``{items}``: a list with one ``item`` each::

        json_format({"texts": "{items}"}, item="{prompt} {response}", scores="results.*.score")

    Args:
        body: the JSON body, or with ``{items}`` its frame.
        scores: where the numbers are: names and list indices joined by points, ``*`` for every element; it
            stands once in a path with ``{items}``, and else not. There may be a number, a list with one
            number a label, or an object of them.
        item: what stands in ``{items}`` for one request.
        unit: whether the numbers are logits, which any other scalar reward may be called, or probabilities.

    Raises:
        ConfigurationError: the judge would not see the answer, or ``item``, ``{items}`` and ``*`` do not go
            together.
    """
    steps = scores.split(".")
    batched = _ITEMS in _texts_in(body)
    _check(body, item, batched, steps)

    def make(requests: Sequence[ScoreRequest], inputs: str) -> dict[str, Any]:
        if not batched:
            return dict(_filled(body, _values(*requests)))
        return dict(_filled(body, {_ITEMS: [_filled(item, _values(request)) for request in requests]}))

    return RemoteFormat(make, _reader(steps), inputs=("template",), unit=unit, batched=batched)


def _check(body: Any, item: Any, batched: bool, steps: Sequence[str]) -> None:
    if not isinstance(body, dict):
        raise ConfigurationError(f"the body must be a JSON object, got {type(body).__name__}")
    if batched != (item is not None) or steps.count("*") != batched:
        raise ConfigurationError(
            'a batch needs "{items}" in the body, item=, and one * in scores; a single request none of them'
        )
    texts = _texts_in(item if batched else body)
    if not any("{response}" in text or text == "{messages}" for text in texts):
        raise ConfigurationError(
            "the template needs {response} or {messages}, or nothing of the answer is judged"
        )
    if any(name in text and name != text for text in texts for name in _WHOLE):
        raise ConfigurationError(f"{' and '.join(_WHOLE)} must be a whole text, not a part of one")
    if batched and any(name in text for text in _texts_in(body) for name in (*_WHOLE, *_PARTS)):
        raise ConfigurationError(
            'beside "{items}" the body says nothing of a request; put the rest into item='
        )


def _texts_in(template: Any) -> list[str]:
    if isinstance(template, Mapping):
        return [text for value in template.values() for text in _texts_in(value)]
    if isinstance(template, list):
        return [text for value in template for text in _texts_in(value)]
    return [template] if isinstance(template, str) else []


def _values(request: ScoreRequest) -> dict[str, Any]:
    return {
        "{prompt}": request.prompt.as_text(),
        "{response}": request.response,
        "{messages}": judged_messages(request),
        "{finished}": request.finished,
    }


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, Mapping):
        return {key: _filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if template in values:
        return values[template]
    return _INSIDE.sub(lambda match: str(values.get(match[0], match[0])), template)


def _reader(steps: Sequence[str]) -> Callable[[Any], list[ScoreRow]]:
    where = ".".join(steps)

    def rows(answer: Any) -> list[ScoreRow]:
        if "*" not in steps:
            return [row(_at(answer, steps), where)]
        split = steps.index("*")
        elements = items(_at(answer, steps[:split]), where)
        return [row(_at(element, steps[split + 1 :]), where) for element in elements]

    return rows


def _at(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, list) and step.isdecimal():
            if int(step) >= len(value):
                raise AnswerError(f"a list is too short for the index {step}")
            value = value[int(step)]
        else:
            value = fields(value, step)
    return value
