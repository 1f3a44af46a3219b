"""Contrastive search: among the likeliest tokens the one that makes the text least like what it said before.

Su et al. 2022, "A Contrastive Framework for Neural Text Generation", equation 5. Each of the k likeliest
tokens v is scored by

    (1 - alpha) * p(v) - alpha * max over the tokens before of cosine(hidden(v), hidden(that token))

where hidden is the model's last hidden state, v's after reading v in its place. So every candidate is fed to
the model: k rows hold the same text, each with another last token.
"""

import torch
from torch import Tensor

from gpt2lab.generation.batch import Row
from gpt2lab.generation.request import Request
from gpt2lab.generation.results import Piece
from gpt2lab.generation.sampling import require_finite
from gpt2lab.generation.strategy import BatchOfRows, Strategy


class Contrastive(Strategy):
    """`top_k` rows, one token a step."""

    needs_hidden = True

    def __init__(self, request: Request, batch: BatchOfRows) -> None:
        super().__init__(request, batch)
        self._text = request.new_text()
        self._probs_K: Tensor | None = None  # of the candidates, one a row
        self._context_TC = torch.empty(0)  # directions of the hidden states of all that the model sees
        self._logits_1V = torch.empty(0)  # the scores from which the candidates were taken

    def advance(self, logits_NV: Tensor) -> list[Piece]:
        """See `Strategy.advance`."""
        if self._probs_K is None:
            self._context_TC = _directions(self.rows[0])
            self._logits_1V = logits_NV[self.rows[0].scored]
            return self._propose()
        best = self._choose(self._probs_K)
        token = best.tokens[-1]
        self._text.rate(self._logits_1V, [token])
        piece = self._text.take(token, best.n_restarts)
        self._logits_1V = logits_NV[best.scored]
        self.done = piece.completion is not None
        if self.done:
            return [piece]
        for row in self.rows:
            if row is not best:  # it differs in its last slot
                row.tokens[-1] = token
                self.batch.copy(best, row, best.n_cached - 1)
        return [piece, *self._propose()]

    def _choose(self, probs_K: Tensor) -> Row:
        """The row whose candidate scores best, the likelier among equals; it is the context from now on."""
        directions = [_directions(row) for row in self.rows]
        if len(directions[0]) > 1:  # the context was full, and its last half encoded anew
            self._context_TC = directions[0][:-1]
        likeness_K = (torch.cat([row_TC[-1:] for row_TC in directions]) @ self._context_TC.T).amax(dim=1)
        alpha = self.request.options.penalty_alpha
        scores_K = (1 - alpha) * probs_K - alpha * likeness_K
        best = int(scores_K.masked_fill(probs_K == 0, -torch.inf).argmax())  # 0: forbidden
        self._context_TC = torch.cat((self._context_TC, directions[best][-1:]))
        return self.rows[best]

    def _propose(self) -> list[Piece]:
        """Append another of the likeliest tokens to each row; give up if the options forbid every one."""
        require_finite(self._logits_1V)
        scores_1V = self.request.sampler.adjust(self._logits_1V.cpu().double(), self.rows[:1])
        if not scores_1V.amax().isfinite():
            self.done = True
            return [self._text.give_up(self.rows[0].n_restarts)]
        self._probs_K, tokens_K = scores_1V.softmax(dim=1)[0].topk(len(self.rows))
        for row, token in zip(self.rows, tokens_K.tolist(), strict=True):
            row.tokens.append(token)
        return []


def _directions(row: Row) -> Tensor:
    """(T, C) hidden states of the row's newly read tokens, each of length 1."""
    assert row.hidden_TC is not None
    return torch.nn.functional.normalize(row.hidden_TC.cpu().double(), dim=1)
