"""What the reward passed, written down by the reward itself; and what was shown, held against it.

The ledger knows nothing of traces, thresholds or the loop: a mark may be seen in a channel exactly when a
call of the reward that came to its end gave it a reward there, for that very stream.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from stars_guard.result import GuardedResult
from stars_guard.text.transcript import Called, Piece
from stars_guard.types import Channel, InvalidToolCall, ToolCall
from tests.faults.marks import BAD, MARK, ONLY_MARKS, POOR

REFUSAL = "(refused)"
TOOL = "look"
CALL_OPENING = f'<tool_call>{{"name": "{TOOL}", "arguments": {{"q": "'
"""How a call begins; one that is cut off is text, so this may stand in an answer between marks."""


@dataclass
class Shown:
    """What one reader saw.

    Attributes:
        number: of the stream.
        texts: by channel.
        calls: tool calls, valid or not.
        forced: marks of text that was said to be forced where it was shown.
        result: the whole result, if the stream was read to its end.
        error: that the stream ended with, if it did.
        other: text in which no mark may stand that was not passed: the bytes of a response.
    """

    number: int
    texts: dict[Channel, str] = field(default_factory=lambda: dict.fromkeys(Channel, ""))
    calls: list[ToolCall | InvalidToolCall] = field(default_factory=list)
    forced: set[str] = field(default_factory=set)
    result: GuardedResult | None = None
    error: BaseException | None = None
    other: str = ""

    def see(self, event: object) -> None:
        """An event of a stream."""
        if isinstance(event, Piece):
            self.add(event.text, event.channel, forced=event.forced)
        elif isinstance(event, Called):
            self.call(event.call, forced=event.forced)

    def add(self, text: str, channel: Channel = Channel.ANSWER, *, forced: bool) -> None:
        """A piece of text, which was said to be forced or not."""
        self.texts[channel] += text
        self.forced.update(MARK.findall(text) if forced else ())

    def call(self, call: ToolCall | InvalidToolCall, *, forced: bool) -> None:
        """A tool call, likewise."""
        self.calls.append(call)
        self.forced.update(MARK.findall(_words(call)) if forced else ())

    def whole(self, result: GuardedResult) -> None:
        """A result that was not streamed."""
        self.result = result
        self.texts[Channel.ANSWER], self.texts[Channel.REASONING] = result.text, result.reasoning
        forced = result.forced_text
        for text, spans in ((result.text, forced.answer), (result.reasoning, forced.reasoning)):
            self.forced.update(mark for start, end in spans for mark in MARK.findall(text[start:end]))
        for call in (*result.tool_calls, *result.invalid_tool_calls):
            self.call(call, forced=call.id in forced.calls)

    @property
    def characters(self) -> int:
        """How many were shown."""
        return sum(map(len, self.texts.values()))


class Ledger:
    """Which marks the reward passed, for which stream and in which channel.

    Args:
        poor_may_be_accepted: whether the rule in force accepts poor candidates, without forcing them.
    """

    def __init__(self, *, poor_may_be_accepted: bool) -> None:
        self._passed: dict[int, set[tuple[Channel, str]]] = defaultdict(set)
        self._poor_may_be_accepted = poor_may_be_accepted

    def passed(self, number: int, channel: Channel, text: str) -> None:
        """The reward gave the candidate at the end of a text a reward that is not bad.

        Args:
            number: of the stream.
            channel: that was judged.
            text: all that the reward was shown of it.
        """
        marks = MARK.findall(text)
        if marks and marks[-1][1] != BAD:
            self._passed[number].add((channel, marks[-1]))

    def clear(self) -> None:
        """Begin anew."""
        self._passed.clear()

    def complaints(self, shown: Shown) -> list[str]:
        """What was shown and ought not to have been: nothing, one hopes."""
        passed = self._passed.get(shown.number, set())
        seen: set[str] = set()
        complaints = []
        for channel, text in _texts(shown):
            marks = MARK.findall(text)
            seen.update(marks)
            complaints += [f"{mark} in {channel}" for mark in marks if (channel, mark) not in passed]
        complaints += [f"text without marks: {text!r}" for text in _without_marks(shown)]
        complaints += self._unmarked_force(seen, shown.forced)
        everywhere = {mark for _, mark in passed}
        complaints += [
            f"{mark} in the response" for mark in MARK.findall(shown.other) if mark not in everywhere
        ]
        if shown.error is not None and MARK.search(f"{shown.error} {shown.error!r}"):
            complaints.append(f"text in the message of a {type(shown.error).__name__}")
        return [f"stream {shown.number}: {complaint}" for complaint in complaints]

    def _unmarked_force(self, seen: set[str], forced: set[str]) -> list[str]:
        if self._poor_may_be_accepted:
            return []
        return [f"{mark} without a word that it was forced" for mark in seen - forced if mark[1] == POOR]


def _texts(shown: Shown) -> list[tuple[Channel, str]]:
    calls = [(Channel.TOOL, _words(call)) for call in shown.calls]
    return [(channel, text) for channel, text in shown.texts.items() if text] + calls


def _words(call: ToolCall | InvalidToolCall) -> str:
    return call.text if isinstance(call, InvalidToolCall) else f"{call.name} {call.arguments}"


def _without_marks(shown: Shown) -> list[str]:
    """The texts that hold anything but marks, refusal, opening of a call, and line between stretches."""
    texts = [text.replace(CALL_OPENING, "") for text in shown.texts.values()]
    for call in shown.calls:
        if isinstance(call, ToolCall):
            texts += [] if call.name == TOOL else [call.name]
            texts += [str(value) for value in call.arguments.values()]
    stretches = [stretch for text in texts for stretch in text.removesuffix(REFUSAL).split("\n\n")]
    return [stretch for stretch in stretches if not ONLY_MARKS.fullmatch(stretch)]
