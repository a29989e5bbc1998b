"""Forward passes of a local model: what is read together, after which cache, and how many passes it took."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from stars_guard.models.local import prefix_cache
from stars_guard.models.local.observing import States, chosen, extended
from stars_guard.models.local.session import TransformersSession


class Passes:
    """The passes through one model. Not safe to use from several threads at once: its owner holds a lock.

    Args:
        model: a causal LM in evaluation mode.

    Attributes:
        count: passes so far.
        prefills: prompts read so far, each in passes of its own.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._accepted_arguments = set(signature(model.forward).parameters)
        self.count = 0
        self.prefills = 0

    @property
    def device(self) -> torch.device:
        """Where the model's inputs belong."""
        return self._model.device

    @torch.inference_mode()
    def forward(
        self,
        ids: torch.Tensor,
        cache: DynamicCache,
        *,
        padding: Sequence[int] = (),
        observing: bool = False,
    ) -> tuple[torch.Tensor, States]:
        """One pass over new tokens.

        Args:
            ids: token ids ``[rows, new]``.
            cache: what came before them, with as many rows; it grows by the new tokens.
            padding: columns of ``cache`` that each row must not see, on its left.
            observing: whether hidden states are wanted.

        Returns:
            The last logits ``[rows, vocabulary]``, and the hidden states, one tensor ``[rows, new, hidden]``
            per layer, if they are wanted.
        """
        arguments: dict[str, Any] = {"input_ids": ids.to(self.device), "past_key_values": cache}
        if any(padding):
            arguments |= self._padded(padding, cache.get_seq_length(), ids.shape[1])
        if "logits_to_keep" in self._accepted_arguments:
            arguments["logits_to_keep"] = 1
        if observing:
            arguments["output_hidden_states"] = True
        self.count += 1
        output = self._model(**arguments, use_cache=True)
        return output.logits[:, -1], tuple(output.hidden_states or ())

    def _padded(self, padding: Sequence[int], cached: int, new: int) -> dict[str, torch.Tensor]:
        hidden = torch.tensor(padding, device=self.device).unsqueeze(-1)
        columns = torch.arange(cached + new, device=self.device)
        arguments = {"attention_mask": (columns >= hidden).long(), "position_ids": columns[cached:] - hidden}
        return {key: value for key, value in arguments.items() if key in self._accepted_arguments}

    def prefill(self, session: TransformersSession, most: int) -> States | None:
        """Read a piece of a session's prompt; None, or its last states where it was read to its end.

        Args:
            session: whose prompt.
            most: most tokens of the piece.
        """
        piece = session.unread[:most]
        last = len(piece) == len(session.unread)
        # Only the last token of a prompt is observed.
        observing = last and bool(session.layers)
        logits, states = self.forward(torch.tensor([piece]), session.cache, observing=observing)
        session.unread = session.unread[most:]
        session.forward_passes += 1
        if not last:
            return None
        session.logits = logits[0]
        self.prefills += 1
        return states

    def catch_up(self, sessions: Sequence[TransformersSession]) -> None:
        """Feed the accepted tokens that sessions have not read: once, before they are forked."""
        single = [session for session in sessions if len(session.pending) == 1]
        if single:
            self._feed_last(single)
        for session in sessions:
            if session.pending:
                self._feed_pending(session)

    def _feed_last(self, behind: Sequence[TransformersSession]) -> None:
        """One token each, in one batch."""
        lengths = [session.length for session in behind]
        batch = prefix_cache.join_rows([session.cache for session in behind], lengths, room=1)
        ids = torch.tensor([session.pending for session in behind])
        padding = [max(lengths) - length for length in lengths]
        layers = next((session.observed.layers for session in behind if session.observed), ())
        logits, states = self.forward(ids, batch, padding=padding, observing=bool(layers))
        for row, session in enumerate(behind):
            session.forward_passes += 1
            if session.observed:
                session.observed = extended(session.observed, chosen(layers, states)[row])
            session.advance(prefix_cache.take(batch, row, session.length + 1), logits[row])

    def _feed_pending(self, session: TransformersSession) -> None:
        """Several tokens, drawn elsewhere, in a pass of their own."""
        tokens = torch.tensor([session.pending])
        cache = prefix_cache.join_rows([session.cache], [session.length], room=len(session.pending))
        logits, states = self.forward(tokens, cache, observing=session.observed is not None)
        session.forward_passes += 1
        if session.observed:
            session.observed = extended(session.observed, chosen(session.observed.layers, states)[0])
        length = session.length + len(session.pending)
        session.advance(prefix_cache.take(cache, 0, length), logits[0])

    @torch.inference_mode()
    def hidden(self, rows: Sequence[list[int]], layers: tuple[int, ...]) -> torch.Tensor:
        """The hidden states of whole texts, in one pass without a cache.

        Args:
            rows: token ids of each text.
            layers: whose output is wanted, from 0, the embedding.

        Returns:
            ``[rows, layers, tokens, hidden]`` in float32; padding is on the right, where no text sees it.
        """
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.device)
        self.count += 1
        output = self._model.base_model(
            input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True
        )
        return chosen(layers, output.hidden_states)
