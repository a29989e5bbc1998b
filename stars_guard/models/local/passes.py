"""Forward passes of a local model: what is read together, after which cache, and how many passes it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel

from stars_guard.forks import ForkedLock
from stars_guard.models.local import prefix_cache
from stars_guard.models.local.prefix_cache import Rows
from stars_guard.models.local.session import TransformersSession
from stars_guard.models.local.sharing import Sharing
from stars_guard.models.local.unshared import UnsharedRows
from stars_guard.models.observing import States, chosen, extended


class Passes:
    """The passes through one model. Not safe to use from several threads at once: whoever does holds a lock.

    Args:
        model: a causal LM in evaluation mode.
        sharing: what candidates of this model may share.

    Attributes:
        lock: held by whoever runs passes.
        count: passes so far.
        prefills: prompts read so far, each in passes of its own.
    """

    def __init__(self, model: PreTrainedModel, sharing: Sharing) -> None:
        self._model = model
        self.sharing = sharing
        self.lock = ForkedLock()
        self.count = 0
        self.prefills = 0

    @property
    def device(self) -> torch.device:
        """Where the model's inputs belong."""
        return self._model.device

    def fresh(self, length: int) -> Rows:
        """What is kept of a text that is to be read, and has so many tokens."""
        if self.sharing.side(length) is None:
            return UnsharedRows([[]])
        return prefix_cache.empty(self._model.config)

    @torch.inference_mode()
    def forward(
        self,
        ids: torch.Tensor,
        cache: Rows,
        *,
        cached: int,
        padding: Sequence[int] = (),
        observing: bool = False,
    ) -> tuple[torch.Tensor, States]:
        """One pass over new tokens; where nothing is shared, one for each row, over the whole of it.

        Args:
            ids: token ids ``[rows, new]``.
            cache: what came before them, with as many rows; it grows by the new tokens.
            cached: columns of ``cache``, padding included.
            padding: columns of ``cache`` that each row must not see, on its left.
            observing: whether hidden states are wanted.

        Returns:
            The last logits ``[rows, vocabulary]``, and the hidden states, one tensor ``[rows, new, hidden]``
            per layer, if they are wanted.
        """
        if isinstance(cache, UnsharedRows):
            return self._anew(ids, cache, observing=observing)
        arguments = self.sharing.call.after(ids.to(self.device), cache, padding, cached)
        return self._called(arguments, observing=observing)

    def _anew(self, ids: torch.Tensor, rows: UnsharedRows, *, observing: bool) -> tuple[torch.Tensor, States]:
        rows.extend(ids)
        whole = [torch.tensor([row], device=self.device) for row in rows.rows]
        read = [self._called(self.sharing.call.alone(row, last=True), observing=observing) for row in whole]
        by_layer = zip(*(states for _, states in read), strict=True)
        new = ids.shape[1]
        return torch.cat([logits for logits, _ in read]), tuple(
            torch.cat([states[:, -new:] for states in layer]) for layer in by_layer
        )

    def _called(self, arguments: Mapping[str, object], *, observing: bool) -> tuple[torch.Tensor, States]:
        self.count += 1
        output = self._model(**arguments, **({"output_hidden_states": True} if observing else {}))
        return output.logits[:, -1], tuple(output.hidden_states or ()) if observing else ()

    def prefill(self, session: TransformersSession, most: int) -> States | None:
        """Read a piece of a session's prompt; None, or its last states where it was read to its end.

        Args:
            session: whose prompt.
            most: most tokens of the piece, where the model can be read on from a piece.
        """
        piece = session.unread[: self.sharing.piece(session.prompt_tokens, most)]
        last = len(piece) == len(session.unread)
        cached = session.prompt_tokens - len(session.unread)
        # Only the last token of a prompt is observed.
        observing = last and bool(session.layers)
        logits, states = self.forward(
            torch.tensor([piece]), session.cache, cached=cached, observing=observing
        )
        session.unread = session.unread[len(piece) :]
        session.forward_passes += 1
        if not last:
            return None
        session.logits = logits[0]
        self.prefills += 1
        return states

    def settle(self, session: TransformersSession, room: int) -> None:
        """Have a session keep what is of use for a candidate, and only that.

        Args:
            session: whose prompt was read.
            room: most tokens of the candidate.
        """
        side = self.sharing.side(session.total, room)
        if side == session.side:
            return
        session.side = side
        ids = session.prompt_ids + session.token_ids
        if side is None:
            session.cache = UnsharedRows([ids[: session.length]])
            return
        session.cache = prefix_cache.empty(self._model.config)
        self._feed(session, ids, session.cache, cached=0)

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
        longest = max(lengths)
        padding = [longest - length for length in lengths]
        layers = next((session.observed.layers for session in behind if session.observed), ())
        logits, states = self.forward(ids, batch, cached=longest, padding=padding, observing=bool(layers))
        for row, session in enumerate(behind):
            session.forward_passes += 1
            if session.observed:
                session.observed = extended(session.observed, chosen(layers, states)[row])
            session.advance(prefix_cache.take(batch, row, session.length + 1), logits[row])

    def _feed_pending(self, session: TransformersSession) -> None:
        """Several tokens, drawn elsewhere: in a pass of their own, or one by one where it must be."""
        while session.pending:
            new = session.pending[: None if self.sharing.in_pieces else 1]
            cache = prefix_cache.join_rows([session.cache], [session.length], room=len(new))
            self._feed(session, new, cache, cached=session.length)

    def _feed(self, session: TransformersSession, ids: list[int], cache: Rows, *, cached: int) -> None:
        """Read tokens of which the last are the first that are pending."""
        observing = session.observed is not None
        logits, states = self.forward(torch.tensor([ids]), cache, cached=cached, observing=observing)
        session.forward_passes += 1
        read = cached + len(ids) - session.length
        if session.observed and read:
            session.observed = extended(
                session.observed, chosen(session.observed.layers, states)[0][:, -read:]
            )
        session.advance(prefix_cache.take(cache, 0, cached + len(ids)), logits[0], read)

    @torch.inference_mode()
    def hidden(self, rows: Sequence[list[int]], layers: tuple[int, ...]) -> torch.Tensor:
        """The hidden states of whole texts, in one pass without a cache.

        Args:
            rows: token ids of each text.
            layers: whose output is wanted, from 0, the embedding.

        Returns:
            ``[rows, layers, tokens, hidden]`` in float32; padding is on the right, where no text sees it.
        """
        ids, mask = self._padded(rows)
        self.count += 1
        output = self._model.base_model(
            input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True
        )
        return chosen(layers, output.hidden_states)

    @torch.inference_mode()
    def logits(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """The logits after every token of whole texts, in one pass without a cache.

        Args:
            rows: token ids of each text.

        Returns:
            ``[rows, tokens, vocabulary]`` in the model's precision; padding is on the right.
        """
        ids, mask = self._padded(rows)
        padded = {} if bool(mask.all()) else {"attention_mask": mask}
        self.count += 1
        logits: torch.Tensor = self._model(**self.sharing.call.alone(ids), **padded).logits
        return logits

    def _padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids with padding on the right, and the mask that hides it."""
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.device)
        return ids, mask
