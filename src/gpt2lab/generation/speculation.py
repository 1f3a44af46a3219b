"""Speculative decoding: guess several tokens cheaply, let the model check them all in one pass.

A pass that reads several tokens costs little more than one that reads a single token, because the weights are
read once. What is drawn is distributed exactly as without guessing (Leviathan et al. 2023, "Fast Inference
from Transformers via Speculative Decoding", appendix A.1; Chen et al. 2023): with p the model's distribution
after all options and q the one the guess x was drawn from, x is kept with probability min(1, p(x) / q(x)),
and where it is not, the token is drawn from max(0, p - q), rescaled. Greedy choices are simply compared.

Guesses come from a draft model, whose distribution went through the same options, or from the text itself
(prompt look-up). The latter are not drawn but certain, so to draw from p and compare is the same rule, and
gives the very tokens that plain drawing with the same seed gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gpt2lab.generation.batch import Batch, Row
from gpt2lab.generation.decoder import Backend
from gpt2lab.generation.request import Request
from gpt2lab.generation.results import Piece
from gpt2lab.generation.sampling import Candidates, draw, require_finite
from gpt2lab.generation.strategy import BatchOfRows, Strategy

_LONGEST_MATCH = 3  # tokens that prompt look-up compares at first; then fewer


@dataclass(frozen=True)
class _History:
    """What a row was before its guesses, and some of them."""

    tokens: list[int]
    n_prompt: int


class DraftModel:
    """A smaller model that guesses for all requests at once.

    Args:
        backend: the model; its vocabulary is the large one's.
        n_rows: most requests at any time.
        n_slots: most tokens a row will hold, up to its context length.
        vocab_size: ids from here on are never drawn.
    """

    def __init__(self, backend: Backend, n_rows: int, n_slots: int, vocab_size: int) -> None:
        self.batch: BatchOfRows = Batch(backend, n_rows, n_slots)
        self._vocab_size = vocab_size

    def join(self, row: Row) -> None:
        """Add a request's row; the prompt may be longer than this model's context."""
        self.batch.join(row)
        self.batch.restart_if_overlong(row)

    def guess(self, group: Sequence["Drafted"]) -> None:
        """Append guesses to the rows of `group`, as many as each has room for."""
        rooms = [strategy.room() for strategy in group]
        for done in range(max(rooms)):
            logits_NV = self.batch.next_logits()[:, : self._vocab_size]
            for strategy, room in zip(group, rooms, strict=True):
                if done < room and len(strategy.guesses) == done:
                    strategy.add_guess(logits_NV[strategy.draft_row.scored])


class Speculation(Strategy):
    """One row, whose scores are asked for after each guess: at least one token a step."""

    def __init__(self, request: Request, batch: BatchOfRows) -> None:
        super().__init__(request, batch)
        self.guesses: list[int] = []
        self._text = request.new_text()

    def room(self) -> int:
        """How many tokens may be guessed now."""
        row = self.rows[0]
        if not row.n_cached:
            return 0  # the prompt first: guesses would hide from the batch that other rows have the same
        n_visible = len(row.tokens) - row.start
        context_left = self.batch.context_length - n_visible  # negative: the row is about to restart
        wanted_left = self.request.options.max_new_tokens - len(self._text.drawn) - 1
        return max(0, min(self._n_at_once(), context_left, wanted_left))

    def _n_at_once(self) -> int:
        return self.request.options.prompt_lookup

    @classmethod
    def prepare_all(cls, group: Sequence[Self]) -> None:
        """Guess by looking where the last words stood before. See `Strategy.prepare_all`."""
        for strategy in group:
            room = strategy.room()
            strategy.guesses = look_up(strategy.rows[0].tokens, room) if room else []
            strategy._ask()

    def _ask(self) -> None:
        row = self.rows[0]
        row.tokens += self.guesses
        row.n_scored = 1 + len(self.guesses)

    def advance(self, logits_NV: Tensor) -> list[Piece]:
        """See `Strategy.advance`."""
        row, guesses = self.rows[0], self.guesses
        logits_GV = logits_NV[row.scored]
        require_finite(logits_GV)
        n_before = len(row.tokens) - len(guesses)
        histories = [
            _History(row.tokens[: n_before + kept], row.n_prompt) for kept in range(len(guesses) + 1)
        ]
        n_kept, last = self._check(logits_GV, histories)
        self._go_on(n_before + n_kept, last)
        tokens = guesses[:n_kept] + ([] if last is None else [last])
        self._text.rate(logits_GV[: len(tokens)], tokens)
        pieces = []
        for token in tokens:
            pieces.append(self._text.take(token, row.n_restarts))
            if pieces[-1].completion is not None:
                self.done = True
                return pieces
        if last is None:
            self.done = True
            pieces.append(self._text.give_up(row.n_restarts))
        return pieces

    def _go_on(self, n_kept: int, last: int | None) -> None:
        """The first `n_kept` tokens stay, and one more comes after them."""
        self.rows[0].take_back(n_kept)
        if last is not None:
            self.rows[0].tokens.append(last)

    def _check(self, logits_GV: Tensor, histories: Sequence[_History]) -> tuple[int, int | None]:
        """How many guesses are kept, and the token after them; None if the options forbid every one."""
        for kept, history in enumerate(histories):
            scores_1V = logits_GV[kept : kept + 1]
            [token] = self.request.sampler.choose(scores_1V, [history], [self.request.generator])
            if kept == len(self.guesses) or token != self.guesses[kept]:
                return kept, token
        raise AssertionError("the last history has no guess to agree with")


class Drafted(Speculation):
    """Speculation with guesses drawn by a draft model."""

    def __init__(self, request: Request, batch: BatchOfRows, draft: DraftModel) -> None:
        super().__init__(request, batch)
        self.draft_row = Row(list(request.prompt_tokens))
        self._draft = draft
        self._drawn_from: list[Candidates] = []

    def _n_at_once(self) -> int:
        # The draft's row must not restart between two looks at the text: when it did would depend on for how
        # long other requests go on guessing, and what it guesses on when it did.
        row, context_length = self.draft_row, self._draft.batch.context_length
        return min(self.request.options.draft_tokens, context_length - (len(row.tokens) - row.start))

    @classmethod
    def prepare_all(cls, group: Sequence[Self]) -> None:
        """Let the draft model guess. See `Strategy.prepare_all`."""
        for strategy in group:
            strategy.guesses, strategy._drawn_from = [], []
        group[0]._draft.guess(group)
        for strategy in group:
            strategy._ask()

    def add_guess(self, logits_1V: Tensor) -> None:
        """Draw one more guess from the draft model's scores; none if the options forbid every token."""
        sampler, generator = self.request.sampler, self.request.generator
        if sampler.greedy:
            [token] = sampler.choose(logits_1V, [self.draft_row], [generator])
        else:
            candidates = sampler.candidates(logits_1V, [self.draft_row])
            token = int(draw(candidates, [generator])) if candidates.logits_BK.amax().isfinite() else None
            self._drawn_from.append(candidates)
        if token is not None:
            self.guesses.append(token)
            self.draft_row.tokens.append(token)

    def _go_on(self, n_kept: int, last: int | None) -> None:
        super()._go_on(n_kept, last)
        self.draft_row.take_back(n_kept)
        if last is not None:
            self.draft_row.tokens.append(last)
        self._draft.batch.restart_if_overlong(self.draft_row)

    def _check(self, logits_GV: Tensor, histories: Sequence[_History]) -> tuple[int, int | None]:
        """See `Speculation._check`."""
        sampler, generator = self.request.sampler, self.request.generator
        if sampler.greedy:
            return super()._check(logits_GV, histories)
        for kept, history in enumerate(histories):
            wanted = sampler.candidates(logits_GV[kept : kept + 1], [history])
            if not wanted.logits_BK.amax().isfinite():
                return kept, None
            if kept == len(self.guesses):
                return kept, int(draw(wanted, [generator]))
            guess, offered = self.guesses[kept], self._drawn_from[kept]
            uniform = float(torch.rand(1, generator=generator, dtype=torch.float64))
            if uniform * _probability(offered, guess) >= _probability(wanted, guess):
                return kept, int(draw(_rest(wanted, offered), [generator]))
        raise AssertionError("the last history has no guess to agree with")


def _probability(candidates: Candidates, token: int) -> float:
    """Of one token, in a single row."""
    probs_K = candidates.logits_BK.softmax(dim=1)[0]
    return float(probs_K[candidates.ids_BK[0] == token].sum())


def _rest(wanted: Candidates, offered: Candidates) -> Candidates:
    """What is wanted more than it was offered: max(0, p - q), up to a factor."""
    V = 1 + int(max(wanted.ids_BK.max(), offered.ids_BK.max()))
    offered_BV = torch.zeros(1, V, dtype=torch.float64)
    offered_BV.scatter_(1, offered.ids_BK, offered.logits_BK.softmax(dim=1))
    more_BK = wanted.logits_BK.softmax(dim=1) - offered_BV.gather(1, wanted.ids_BK)
    if more_BK.amax() <= 0:  # equal but for rounding
        return wanted
    return Candidates(wanted.ids_BK, more_BK.clamp(min=0).log())


def look_up(tokens: Sequence[int], n: int) -> list[int]:
    """What came after the latest earlier place with the same last 3 tokens, or 2, or 1: up to `n` tokens."""
    text_T = torch.tensor(tokens)
    for size in range(min(_LONGEST_MATCH, len(tokens) - 1), 0, -1):
        grams_NS = text_T[:-1].unfold(0, size, 1)
        places = (grams_NS == text_T[-size:]).all(dim=1).nonzero()
        if len(places):
            after = int(places[-1]) + size
            return list(tokens[after : after + n])
    return []
