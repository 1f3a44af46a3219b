"""Beam search: keep the likeliest few texts instead of one, and rank those that have ended.

The rules are those of transformers, so that the results are: a step keeps `num_beams` texts of the
2 x num_beams likeliest continuations, of which those among the first num_beams that end are put aside with
their score, log-probability / length ** length_penalty; the best num_beams put aside are kept. Penalties and
prohibitions change log-probabilities here, not scores (for the repetition penalty that makes a difference).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpt2lab.generation.batch import Row
from gpt2lab.generation.logprobs import token_logprobs
from gpt2lab.generation.request import Request
from gpt2lab.generation.results import Piece, TokenLogprob
from gpt2lab.generation.sampling import require_finite
from gpt2lab.generation.strategy import BatchOfRows, Strategy


@dataclass(frozen=True)
class _Ended:
    """A text that was put aside."""

    score: float
    drawn: list[int]
    logprobs: list[TokenLogprob]
    n_restarts: int


@dataclass(frozen=True)
class _Beam:
    """A text that goes on, in a row of the batch."""

    row: Row
    score: float
    """the sum of its tokens' log-probabilities"""
    logprobs: list[TokenLogprob]


_Continuation = tuple[float, int, int, list[TokenLogprob]]
"""(score, which beam, the token after it, log-probabilities)"""


class Beams(Strategy):
    """`num_beams` rows, one text each. Its pieces all come at the end: no text is certain before."""

    def __init__(self, request: Request, batch: BatchOfRows) -> None:
        options = request.options
        super().__init__(request, batch)
        # All rows hold the prompt; only the first counts, or all would go on with the same tokens.
        self._beams = [_Beam(self.rows[0], 0.0, [])]
        self._ended: list[_Ended] = []
        self._n_drawn = 0
        self._n_candidates = max(2, 1 + len(request.sampler.ends)) * options.num_beams

    def advance(self, logits_NV: Tensor) -> list[Piece]:
        """See `Strategy.advance`."""
        rows = [beam.row for beam in self._beams]
        logits_BV = torch.cat([logits_NV[row.scored] for row in rows]).cpu().double()
        require_finite(logits_BV)
        log_probs_BV = self.request.sampler.adjust(logits_BV.log_softmax(dim=1), rows)
        sums_B1 = torch.tensor([[beam.score] for beam in self._beams], dtype=torch.float64)
        totals_N = (log_probs_BV + sums_B1).flatten()
        best, places = totals_N.topk(min(self._n_candidates, len(totals_N)))
        self._n_drawn += 1
        going_on = self._sort_out(best.tolist(), places.tolist(), logits_BV)
        if not going_on or self._is_decided(going_on[0][0]):
            self.done = True
            return self._results()
        self._continue(going_on)
        return []

    def _sort_out(
        self, best: Sequence[float], places: Sequence[int], logits_BV: Tensor
    ) -> list[_Continuation]:
        """Put aside the continuations that end; return those to go on."""
        options = self.request.options
        going_on: list[_Continuation] = []
        ended = list(self._ended)
        for rank, (total, place) in enumerate(zip(best, places, strict=True)):
            b, token = divmod(place, logits_BV.size(1))
            ends = self._ends(self._beams[b].row, token)
            if total == -torch.inf or (
                rank >= options.num_beams if ends else len(going_on) == options.num_beams
            ):
                continue
            logprobs = self._beams[b].logprobs
            if options.logprobs is not None:
                logprobs = logprobs + token_logprobs(logits_BV[b : b + 1], [token], options.logprobs)
            if not ends:
                going_on.append((total, b, token, logprobs))
            elif not (options.early_stopping is True and self._is_full):
                row = self._beams[b].row
                score = total / self._n_drawn**options.length_penalty
                ended.append(_Ended(score, [*row.tokens[row.n_prompt :], token], logprobs, row.n_restarts))
        self._ended = sorted(ended, key=lambda text: -text.score)[: options.num_beams]
        return going_on

    @property
    def _is_full(self) -> bool:
        return len(self._ended) == self.request.options.num_beams

    def _ends(self, row: Row, token: int) -> bool:
        request = self.request
        if token in request.sampler.ends or self._n_drawn == request.options.max_new_tokens:
            return True
        if not request.options.stop:
            return False
        decoder = request.tokenizer.stream_decoder()
        decoder.push(row.tokens[row.n_prompt - 1])
        text = "".join(decoder.push(token) for token in (*row.tokens[row.n_prompt :], token))
        return any(stop in text for stop in request.options.stop)

    def _is_decided(self, best_sum: float) -> bool:
        """Whether to end: no text that goes on can (or, by default, is likely to) become one of the best."""
        options = self.request.options
        if not self._is_full:
            return False
        if options.early_stopping is True:
            return True
        longest = options.early_stopping == "never" and options.length_penalty > 0
        length = options.max_new_tokens if longest else self._n_drawn
        return bool(best_sum / length**options.length_penalty <= self._ended[-1].score)

    def _continue(self, going_on: Sequence[_Continuation]) -> None:
        """Give every text that goes on a row that holds it."""
        parents = [self._beams[b].row for _, b, _, _ in going_on]
        free = [row for row in self.rows if not any(row is parent for parent in parents)]
        rows: list[Row] = []
        for parent in parents:
            if any(row is parent for row in rows):  # its first continuation stays where it is
                rows.append(free.pop())
                self._copy(parent, rows[-1])
            else:
                rows.append(parent)
        for row, (_, _, token, _) in zip(rows, going_on, strict=True):
            row.tokens.append(token)
        self._beams = [
            _Beam(row, total, logprobs) for row, (total, _, _, logprobs) in zip(rows, going_on, strict=True)
        ]

    def _copy(self, source: Row, target: Row) -> None:
        same = 0
        if target.start == source.start and target.n_cached == source.n_cached:
            same = source.n_prompt
            while same < len(source.tokens) and source.tokens[same] == target.tokens[same]:
                same += 1
        self.batch.copy(source, target, max(0, same - source.start))
        target.tokens = list(source.tokens)
        target.start, target.n_restarts = source.start, source.n_restarts

    def _results(self) -> list[Piece]:
        unfinished = [
            _Ended(-torch.inf, beam.row.tokens[beam.row.n_prompt :], beam.logprobs, beam.row.n_restarts)
            for beam in self._beams
        ]  # only if the options forbade every continuation
        found = (self._ended + unfinished * self.request.options.samples)[: self.request.options.samples]
        return [self._as_piece(index, text) for index, text in enumerate(found)]

    def _as_piece(self, index: int, ended: _Ended) -> Piece:
        """The whole text in one piece."""
        text = self.request.new_text(index)
        text.copy_ratings(ended.logprobs)
        shown = ""
        for token in ended.drawn:
            piece = text.take(token, ended.n_restarts)
            shown += piece.text
            if piece.completion is not None:
                break
        else:
            piece = text.give_up(ended.n_restarts)
            shown += piece.text
        assert piece.completion is not None
        completion = replace(piece.completion, score=ended.score)
        return Piece(piece.index, shown, completion, len(text.drawn))
