"""Reading whole answers, wherever they were drawn: for hidden states, and for how likely they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from stars_guard.models.local.likelihood import log_probabilities
from stars_guard.models.local.passes import Passes
from stars_guard.models.local.reading import read_states
from stars_guard.models.observing import check_layers
from stars_guard.prompts import Prompt
from stars_guard.types import HiddenStates, ModelIdentity


class ReadsAnswers(Protocol):
    """The part of a local model that reads texts in passes of their own."""

    passes: Passes
    tokenizer: Any

    @property
    def identity(self) -> ModelIdentity:
        """What tells the model from others."""

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids."""

    def read_states(
        self,
        texts: Sequence[tuple[Prompt, str]],
        layers: tuple[int, ...],
        lengths: Sequence[int | None] = (None,),
    ) -> list[list[HiddenStates]]:
        """The states of answers that were not drawn here, in passes of their own.

        Arguments, outcome and errors are those of :meth:`stars_guard.models.base.ReadsStates.read_states`.
        """
        check_layers(layers, self.identity.layers)
        encoded = [(self.encode(prompt), self._response_ids(response, lengths)) for prompt, response in texts]
        with self.passes.lock:
            return read_states(self.passes, self.identity, encoded, layers, lengths)

    def log_probabilities(self, texts: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """How likely the model finds each token of answers, at temperature 1.

        An answer is read as its text is encoded anew, which need not be by the tokens that it was drawn in;
        what ended it is no part of it.

        Args:
            texts: prompts and answers.

        Returns:
            For each text, the log-probability in nats of each of its answer's tokens.

        Raises:
            PromptError: the template refuses the messages.
        """
        encoded = [(self.encode(prompt), self._response_ids(response, (None,))) for prompt, response in texts]
        with self.passes.lock:
            return log_probabilities(self.passes, encoded)

    def _response_ids(self, response: str, lengths: Sequence[int | None]) -> list[int]:
        ids = list(self.tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"])
        numbers = [length for length in lengths if length is not None]
        return ids[: max(numbers)] if len(numbers) == len(lengths) else ids
