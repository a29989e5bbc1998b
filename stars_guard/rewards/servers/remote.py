"""A scoring server as a reward model: vLLM, SGLang, TEI, moderation endpoints, or any JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from stars_guard.errors import (
    ConfigurationError,
    ScoringError,
    StarsGuardError,
    failures_as,
    needs_extra,
    raised_here,
)
from stars_guard.http.access import HttpAccess
from stars_guard.http.faults import ServerFaults
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.readout import Labels, Scale
from stars_guard.rewards.servers.formats import RemoteFormat, choose_remote_format
from stars_guard.rewards.servers.scores import AnswerError, RowReader, WorstReader, label_reader
from stars_guard.text.control_tokens import as_mere_text
from stars_guard.types import Named, Reward

if TYPE_CHECKING:
    from stars_guard.http.client import JsonClient

_FAULTS = ServerFaults(
    error=ScoringError,
    server="server",
    caller="RemoteReward",
    more_time="raise timeout or the deadline",
    remedies={
        400: "the server does not take this body: check format, inputs, model and the length it reads",
        401: "check the API key",
        403: "check the API key",
        404: "check the path of the URL, and model",
        413: "lower max_batch, or judge shorter texts",
        422: "the server does not take this body: check format, inputs, model and the length it reads",
        429: "the server is overloaded: lower max_parallel, or raise retries",
        503: "the server is overloaded or starting: raise retries, or look into its log",
    },
)
_PROBE = ScoreRequest(Prompt.of("prompt"), "response", finished=True)


class HttpOptions(HttpAccess):
    """How a scoring server is called."""

    max_batch: int = Field(default=32, ge=1)
    """Most requests in one HTTP call, where the format allows several."""


class RemoteReward(Named):
    """A reward from a server that scores text over HTTP; higher is safer or better.

    A call to ``score`` is cut into batches, sent in parallel. Each ends by the earliest deadline of its
    requests. Whatever goes wrong is a :class:`ScoringError`: there are no made-up rewards. It names the URL
    without user, password and query, and holds neither a judged text nor the API key. Redirects are not
    followed; proxies and ``.netrc`` are not used. Safe to call from several threads. Close it after use, or
    use it in a ``with`` statement.

    Making one checks everything that can be checked without the server, and sends nothing.

    Args:
        url: the whole address: ``http://localhost:8000/classify``. Keep keys out of it, httpx logs URLs.
        format: a name in :data:`stars_guard.rewards.servers.formats.REMOTE_FORMATS`, or what
            :func:`stars_guard.rewards.servers.template.json_format` makes.
        model: name of the model, for servers that ask for it.
        inputs: how the server is given prompt and answer; by default the first that the format knows.
        labels: the model's labels in the order of its outputs; none for a scalar reward model. Moderation
            names its categories itself.
        good: label or labels whose probability is the reward.
        bad: label or labels whose absence is the reward; for moderation, the categories that count.
        multi_label: the labels are independent, instead of exactly one being true.
        scale: unit, as in :mod:`stars_guard.rewards.readout`; by default the format's first.
        extra: more fields for the body, such as ``{"priority": 1}``. Asking the server to truncate may
            cut off, unjudged, the end of the answer.
        http: time limits, retries, batches, API key.
        name: for traces and error messages; by default format and URL.

    Raises:
        ConfigurationError: something does not fit; :class:`MissingExtraError` if httpx is missing.
    """

    def __init__(
        self,
        url: str,
        format: str | RemoteFormat,
        *,
        model: str | None = None,
        inputs: str | None = None,
        labels: Iterable[str] = (),
        good: Labels | None = None,
        bad: Labels | None = None,
        multi_label: bool = False,
        scale: Scale | None = None,
        extra: Mapping[str, Any] | None = None,
        http: HttpOptions | None = None,
        name: str | None = None,
    ) -> None:
        self._options = http or HttpOptions()
        self._format = choose_remote_format(format)
        self._inputs = self._format.choose_inputs(inputs)
        chosen = self._format.choose_scale(scale)
        self._reader = _reader(self._format, chosen, tuple(labels), good, bad, multi_label)
        self._added = _added(self._format, chosen, model, extra or {})
        with failures_as(ConfigurationError, "making the JSON body of a request"):
            json.dumps(self._body([_PROBE]), allow_nan=False)
        self._client = _client(url, self._options)
        self.name = name or f"{format if isinstance(format, str) else 'remote'} at {self._client.shown}"

    @property
    def parallel_calls(self) -> int:
        """How many calls to ``score`` at once the connections allow for."""
        return self._options.max_parallel

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order; ``components`` tells labels and categories apart.

        Raises:
            ScoringError: any of them could not be had in time.
        """
        size = self._format.largest_batch(self._inputs, self._options.max_batch)
        batches = [requests[start : start + size] for start in range(0, len(requests), size)]
        bodies = [self._body(batch) for batch in batches]
        deadlines = [_deadline(batch) for batch in batches]
        answers = self._client.post_all("", bodies, deadlines=deadlines) or ()
        judged = zip(batches, answers, strict=True)
        return [reward for batch, answer in judged for reward in self._rewards(batch, answer)]

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""

    def close(self) -> None:
        """Abandon every call and close the connections; scoring afterwards is an error."""
        self._client.close()

    def __enter__(self) -> RemoteReward:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _rewards(self, batch: Sequence[ScoreRequest], answer: Any) -> list[Reward]:
        try:
            rows = self._format.rows(answer)
            if len(rows) == len(batch):
                return [self._reader(row) for row in rows]
            problem = f"{len(rows)} scores for {len(batch)} requests"
        except Exception as error:
            # The words of a format of the user's own may quote the answer.
            own = isinstance(error, AnswerError) and raised_here(error)
            raise self._unreadable(str(error) if own else type(error).__name__) from error
        raise self._unreadable(problem)

    def _unreadable(self, problem: str) -> StarsGuardError:
        return self._client.error(
            "", f"the answer cannot be read: {problem}; check that format and model fit"
        )

    def _body(self, batch: Sequence[ScoreRequest]) -> dict[str, Any]:
        return {**self._format.body([_mere_text(request) for request in batch], self._inputs), **self._added}


def _mere_text(request: ScoreRequest) -> ScoreRequest:
    """The request without control tokens of users or of the judged model, which would end turns."""
    prompt = request.prompt
    plain = replace(prompt, messages=tuple(as_mere_text(prompt.messages)), text=as_mere_text(prompt.text))
    return replace(request, prompt=plain, response=as_mere_text(request.response))


def _client(url: str, options: HttpOptions) -> JsonClient:
    with needs_extra("remote", "httpx"):
        from stars_guard.http.address import Address
        from stars_guard.http.client import JsonClient
    return JsonClient(Address.of(url, "http://localhost:8000/classify"), options, _FAULTS)


def _added(format: RemoteFormat, scale: Scale, model: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into every body."""
    raw = format.logit_option if scale == "logit" else {}
    return {**raw, **({"model": model} if model else {}), **extra}


def _deadline(batch: Sequence[ScoreRequest]) -> float:
    """The earliest deadline, on the monotonic clock; infinite without one."""
    return min((request.deadline for request in batch if request.deadline is not None), default=math.inf)


def _reader(
    format: RemoteFormat,
    scale: Scale,
    labels: tuple[str, ...],
    good: Labels | None,
    bad: Labels | None,
    multi_label: bool,
) -> RowReader:
    if not format.worst_of:
        unit = "logit" if scale == "logit" and format.logit_option else format.unit
        return label_reader(labels, unit, scale, good=good, bad=bad, multi_label=multi_label)
    if labels or good is not None or multi_label:
        raise ConfigurationError(
            "moderation takes no labels, good or multi_label; name the categories as bad="
        )
    return WorstReader((bad,) if isinstance(bad, str) else tuple(bad or ()), scale)
