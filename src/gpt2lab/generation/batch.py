"""Sequences of different lengths that are decoded together, joining and leaving as they please.

There is no left padding. A row's token at position p lies in slot p of the row's cache, whatever its
neighbours do. Rows stand in two runs, so that what is fed together is one stretch of the cache:

    rows[:n_encoded]   the cache holds their beginning: fed what is new, mostly one token a row
    rows[n_encoded:]   not in the cache yet: encoded whole, equal ones only once

A row longer than the context cannot go on with a shifted cache, because its keys and values were computed
for positions they no longer have. It keeps the last half of the context and is encoded anew, which is what
a fresh model would say of that window.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Generic, TypeVar

import torch
from torch import Tensor

from gpt2lab.generation.decoder import Backend

_TOKENS_AT_ONCE = 8192  # padding included, when encoding: bounds the memory of the activations


@dataclass(eq=False)
class Row:
    """One sequence: a prompt and what follows it."""

    tokens: list[int]
    """all of them; the model sees those from `start` on"""
    n_prompt: int = -1
    """how many of them are the prompt's; all that were there at the beginning"""
    start: int = 0
    """how many were dropped at the beginning when the context was full"""
    n_restarts: int = 0
    """how often that happened"""
    n_scored: int = 1
    """of how many of its last tokens `Batch.next_logits` gives the scores"""
    keeps_hidden: bool = False
    """whether `hidden_TC` is set"""
    n_cached: int = field(default=0, repr=False)
    """how many of the tokens from `start` on are in the cache"""
    hidden_TC: Tensor | None = field(default=None, repr=False)
    """the hidden states of the tokens that the last `Batch.next_logits` fed"""
    scored: slice = field(default_factory=lambda: slice(0), repr=False)
    """which rows of the last `Batch.next_logits` are this one's"""

    def __post_init__(self) -> None:
        if self.n_prompt < 0:
            self.n_prompt = len(self.tokens)

    @property
    def window(self) -> list[int]:
        """The tokens that the model sees."""
        return self.tokens[self.start :] if self.start else self.tokens

    def take_back(self, n_kept: int) -> None:
        """Drop all tokens but the first `n_kept`."""
        del self.tokens[n_kept:]
        self.n_cached = min(self.n_cached, n_kept - self.start)


R = TypeVar("R", bound=Row)


class Batch(Generic[R]):
    """Rows that share a decoder.

    The caller appends tokens to `rows` after `next_logits` (or takes some back), lets rows join and leave,
    and asks again. A row that has nothing new is asked again about its last tokens.

    Args:
        backend: the model.
        n_rows: most rows at any time.
        n_slots: most tokens a row will hold, up to the model's context length.
    """

    def __init__(self, backend: Backend, n_rows: int, n_slots: int) -> None:
        self.rows: list[R] = []
        self.decoder = backend.decoder(n_rows, n_slots)
        self.context_length = backend.config.context_length
        self._n_encoded = 0

    def join(self, row: R) -> None:
        """Add a row; it is encoded by the next `next_logits`."""
        row.n_cached = 0
        self.rows.append(row)

    def leave(self, row: R) -> None:
        """Take out a row. The others close the gap, so their order may change."""
        index = self._index(row)
        if index < self._n_encoded:
            last = self._n_encoded = self._n_encoded - 1
            if index != last:
                self.decoder.copy_row(last, index, 0, self.rows[last].n_cached)
            self.rows[index], index = self.rows[last], last
        self.rows[index] = self.rows[-1]
        self.rows.pop()

    def copy(self, source: R, target: R, start: int = 0) -> None:
        """Make the cache of `target` that of `source`, which has the same tokens before `start`.

        Both were in the last `next_logits`; the tokens of `target` are the caller's to set.
        """
        self.decoder.copy_row(self._index(source), self._index(target), start, source.n_cached)
        target.n_cached = source.n_cached

    def restart_if_overlong(self, row: R) -> None:
        """Keep only the last half of the context of a row that has outgrown it; `next_logits` does it too."""
        if len(row.tokens) - row.start > self.context_length:
            self.leave(row)
            row.start = len(row.tokens) - max(1, self.context_length // 2)
            row.n_restarts += 1
            self.join(row)

    def next_logits(self) -> Tensor:
        """Scores of the token after each of the last `n_scored` tokens of each row.

        Returns:
            (N, V), the rows in the order of `rows`, which may have changed by this call; N is the sum of
            their `n_scored`.
        """
        for row in list(self.rows):
            self.restart_if_overlong(row)
        hidden = self._feed_cached() + self._encode_joined()
        n_scored = 0
        for row, hidden_TC in zip(self.rows, hidden, strict=True):
            row.hidden_TC = hidden_TC if row.keeps_hidden else None
            row.n_cached = len(row.tokens) - row.start
            row.scored = slice(n_scored, n_scored := n_scored + row.n_scored)
        scored = [hidden_TC[-row.n_scored :] for row, hidden_TC in zip(self.rows, hidden, strict=True)]
        with torch.inference_mode():
            return self.decoder.logits(torch.cat(scored))

    def _index(self, row: R) -> int:
        return next(index for index, other in enumerate(self.rows) if other is row)

    def _feed_cached(self) -> list[Tensor]:
        """Feed what is new to the rows that have been fed before; (T, C) hidden states of each."""
        rows = self.rows[: self._n_encoded]
        if not rows:
            return []
        starts = [min(row.n_cached, len(row.tokens) - row.start - row.n_scored) for row in rows]
        new = [row.tokens[row.start + start :] for row, start in zip(rows, starts, strict=True)]
        n_last = [
            len(tokens) if row.keeps_hidden else row.n_scored for row, tokens in zip(rows, new, strict=True)
        ]
        return _split(self.decoder.feed(0, new, starts, n_last), n_last)

    def _encode_joined(self) -> list[Tensor]:
        """Feed the rows that have joined, equal ones only once; (T, C) hidden states of each."""
        first, alike = self._n_encoded, _alike(self.rows[self._n_encoded :])
        if not alike:
            return []
        hidden: list[Tensor] = []
        at_once = max(1, _TOKENS_AT_ONCE // max(len(rows[0].window) for rows in alike))
        for done in range(0, len(alike), at_once):
            some = alike[done : done + at_once]
            new = [rows[0].window for rows in some]
            n_last = [
                max(len(tokens) if row.keeps_hidden else row.n_scored for row in rows)
                for rows, tokens in zip(some, new, strict=True)
            ]
            hidden += _split(self.decoder.feed(first + done, new, [0] * len(some), n_last), n_last)
        self.rows[first:] = [rows[0] for rows in alike]
        for source, rows in enumerate(alike):
            for row in rows[1:]:
                self.decoder.copy_row(first + source, len(self.rows), 0, len(row.window))
                self.rows.append(row)
                hidden.append(hidden[source])
        self._n_encoded = len(self.rows)
        return hidden


def _alike(rows: Sequence[R]) -> list[list[R]]:
    """The rows in groups of equal windows."""
    groups: dict[tuple[int, ...], list[R]] = {}
    for row in rows:
        groups.setdefault(tuple(row.window), []).append(row)
    return list(groups.values())


def _split(packed_NC: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """(N, C) as one tensor for each size."""
    ends = list(accumulate(sizes))
    return [packed_NC[end - size : end] for end, size in zip(ends, sizes, strict=True)]
