"""How much cache requests need, known before anything is computed, and never more than a limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gpt2lab.base.errors import UserError
from gpt2lab.generation.decoder import Backend
from gpt2lab.generation.request import Request

_MIB = 2**20


@dataclass(frozen=True)
class Capacity:
    """The rows of a cache and how many tokens each holds."""

    n_rows: int
    n_slots: int
    n_draft_slots: int
    """of a draft model's rows, as many as its model's; 0 without one"""
    n_bytes: int
    """what the keys and values take"""

    @classmethod
    def plan(
        cls,
        requests: Sequence[Request],
        backend: Backend,
        draft: Backend | None,
        max_rows: int,
        max_bytes: int | None,
    ) -> Self:
        """Room for any of `requests`, and for as many at once as the limits allow; the others wait.

        Args:
            requests: at least one.
            backend: the model.
            draft: the model that guesses, if there is one.
            max_rows: most rows, unless a single request needs more.
            max_bytes: most bytes of keys and values; None for no limit.

        Raises:
            UserError: a single request does not fit into `max_bytes`.
        """
        longest = max(request.n_slots for request in requests)
        n_slots = min(longest, backend.config.context_length)
        n_draft_slots = 0 if draft is None else min(longest, draft.config.context_length)
        row_bytes = backend.row_bytes(n_slots)
        if draft is not None:
            row_bytes += draft.row_bytes(n_draft_slots)
        least = max(request.n_rows for request in requests)
        n_rows = max(least, min(max_rows, sum(request.n_rows for request in requests)))
        if max_bytes is not None:
            if least * row_bytes > max_bytes:
                needed, limit = least * row_bytes / _MIB, max_bytes / _MIB
                raise UserError(
                    f"{least} x {n_slots:,} tokens take {needed:,.1f} MiB, the limit is {limit:,.1f}",
                    where="cache",
                    fix="Raise max_cache_bytes (--cache-mib), or ask for fewer tokens, beams or candidates",
                )
            n_rows = min(n_rows, max_bytes // row_bytes)
        return cls(n_rows, n_slots, n_draft_slots, n_rows * row_bytes)
