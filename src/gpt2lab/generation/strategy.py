"""How a request gets from scores to tokens: what every strategy has, and the plain one, a draw a token."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Self

from torch import Tensor

from gpt2lab.generation.batch import Batch, Row
from gpt2lab.generation.request import Request
from gpt2lab.generation.results import Piece

BatchOfRows = Batch[Row]


class Strategy(ABC):
    """One request at work: it owns rows of the batch, and is given their scores once a step."""

    needs_hidden: ClassVar[bool] = False
    """whether it looks at hidden states, not only at scores"""

    def __init__(self, request: Request, batch: BatchOfRows) -> None:
        self.request = request
        self.batch = batch
        keeps_hidden = self.needs_hidden or request.wants_prompt_logprobs
        self.rows = [
            Row(list(request.prompt_tokens), keeps_hidden=keeps_hidden) for _ in range(request.n_rows)
        ]
        self.done = False

    @classmethod
    def prepare_all(cls, group: Sequence[Self]) -> None:
        """Get ready for the next scores; `group` are the requests at work in this way."""
        return

    @classmethod
    def advance_all(cls, group: Sequence[Self], logits_NV: Tensor) -> Iterable[Piece]:
        """Use this step's scores for requests that share a sampler; `Row.scored` says whose are whose."""
        return [piece for strategy in group for piece in strategy.advance(logits_NV)]

    @abstractmethod
    def advance(self, logits_NV: Tensor) -> Iterable[Piece]:
        """Use the scores of this step."""


class Drawing(Strategy):
    """One row, one token a step, drawn from its scores or (greedy) the likeliest."""

    def __init__(self, request: Request, batch: BatchOfRows) -> None:
        super().__init__(request, batch)
        self._text = request.new_text()

    @classmethod
    def advance_all(cls, group: Sequence[Self], logits_NV: Tensor) -> list[Piece]:
        """Draw for all rows at once. See `Strategy.advance_all`."""
        rows = [strategy.rows[0] for strategy in group]
        places = [row.scored.start for row in rows]
        # Mostly these are all the rows there are: then nothing is copied.
        logits_BV = logits_NV if places == list(range(len(logits_NV))) else logits_NV[places]
        generators = [strategy.request.generator for strategy in group]
        tokens = group[0].request.sampler.choose(logits_BV, rows, generators)
        return [
            strategy._take(token, logits_BV[b : b + 1])
            for b, (strategy, token) in enumerate(zip(group, tokens, strict=True))
        ]

    def advance(self, logits_NV: Tensor) -> list[Piece]:
        """See `Strategy.advance`."""
        return self.advance_all([self], logits_NV)

    def _take(self, token: int | None, logits_1V: Tensor) -> Piece:
        row = self.rows[0]
        if token is None:
            piece = self._text.give_up(row.n_restarts)
        else:
            row.tokens.append(token)
            self._text.rate(logits_1V, [token])
            piece = self._text.take(token, row.n_restarts)
        self.done = piece.completion is not None
        return piece
