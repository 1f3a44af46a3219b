"""From scores to a token: penalties, then what may be drawn, then one draw from it.

Filters take candidates and return fewer, or give those that may not be drawn a score of minus infinity. All
but plain greedy runs on the CPU in float64 row by row, with each row's own generator, so a row's tokens
depend neither on its neighbours in the batch nor on the device that computed the scores.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.processors import History, end_tokens, processors
from gpt2lab.tokenizer import Tokenizer

_HEADS = (128, 1024)  # of the first in line, before all are sorted: many times slower at V = 50,257


class Candidates(NamedTuple):
    """The tokens that may come next, a row each: K of them, in ascending order of their ids."""

    ids_BK: Tensor
    logits_BK: Tensor
    """float64 scores on the CPU; minus infinity for those that may not come after all"""


Filter = Callable[[Candidates], Candidates]


def apply_temperature(candidates: Candidates, temperature: float) -> Candidates:
    """Divide by the temperature: below 1 the likely become likelier, above 1 all become more equal."""
    return Candidates(candidates.ids_BK, candidates.logits_BK / temperature)


def keep_top_p(candidates: Candidates, p: float) -> Candidates:
    """Keep the nucleus: the fewest likeliest tokens whose probabilities reach p together.

    The token that crosses p is part of it, so at least one always stays (Holtzman et al. 2020, section 3.1).
    """
    probs_BK = candidates.logits_BK.softmax(dim=1)
    return _first_to_reach(candidates, probs_BK, -probs_BK, p)


def keep_min_p(candidates: Candidates, p: float) -> Candidates:
    """Keep the tokens at least p times as likely as the likeliest (Nguyen et al. 2024, section 3)."""
    probs_BK = candidates.logits_BK.softmax(dim=1)
    unlikely_BK = probs_BK < p * probs_BK.amax(dim=1, keepdim=True)
    return Candidates(candidates.ids_BK, candidates.logits_BK.masked_fill(unlikely_BK, -torch.inf))


def keep_typical(candidates: Candidates, p: float) -> Candidates:
    """Keep the fewest tokens, those whose surprise is nearest the expected one first, that reach p together.

    Meister et al. 2022, section 3. The token that crosses p is part of them, so at least one always stays.
    """
    log_probs_BK = candidates.logits_BK.log_softmax(dim=1)
    probs_BK = log_probs_BK.exp()
    entropy_B1 = -(probs_BK * log_probs_BK).nansum(dim=1, keepdim=True)
    return _first_to_reach(candidates, probs_BK, (log_probs_BK + entropy_B1).abs(), p)


def _first_to_reach(candidates: Candidates, probs_BK: Tensor, order_BK: Tensor, p: float) -> Candidates:
    """In ascending `order_BK`, the fewest whose probabilities reach p together; of each row at least one."""
    K = probs_BK.size(1)
    for head in (*(head for head in _HEADS if head < K), K):
        places_BN = order_BK.topk(head, largest=False).indices
        probs_BN = probs_BK.gather(1, places_BN)
        reached_BN = probs_BN.cumsum(dim=1)
        if (reached_BN[:, -1] >= p).all():
            break
    late_BN = reached_BN - probs_BN >= p
    logits_BN = candidates.logits_BK.gather(1, places_BN).masked_fill(late_BN, -torch.inf)
    places_BN, order_BN = places_BN.sort(dim=1)
    return Candidates(candidates.ids_BK.gather(1, places_BN), logits_BN.gather(1, order_BN))


def filters(options: SamplingOptions) -> list[Filter]:
    """The filters that `options` ask for, in the order in which they apply; the top k were kept before."""
    chain: list[Filter] = []
    if options.temperature not in (0, 1):
        chain.append(partial(apply_temperature, temperature=options.temperature))
    if options.top_p < 1:
        chain.append(partial(keep_top_p, p=options.top_p))
    if options.min_p > 0:
        chain.append(partial(keep_min_p, p=options.min_p))
    if options.typical_p < 1:
        chain.append(partial(keep_typical, p=options.typical_p))
    return chain


def likeliest(logits_BV: Tensor, k: int) -> Candidates:
    """The k likeliest tokens, and any as likely as the k-th (Fan et al. 2018, section 5.4); 0 for all."""
    B, V = logits_BV.shape
    if k == 0 or k >= V:
        return Candidates(torch.arange(V).expand(B, V), logits_BV.cpu().double())
    scores_BK, ids_BK = logits_BV.topk(k + 1)  # one more, to see whether it is as likely as the k-th
    kth_B1 = scores_BK[:, k - 1 : k]
    if (kth_B1.isfinite() & (scores_BK[:, k:] == kth_B1)).any():
        n = int((logits_BV >= kth_B1).masked_fill(~kth_B1.isfinite(), False).sum(dim=1).max())
        scores_BK, ids_BK = logits_BV.topk(n)
    scores_BK = scores_BK.masked_fill(scores_BK < kth_B1, -torch.inf)
    ids_BK, order_BK = ids_BK.cpu().sort(dim=1)
    return Candidates(ids_BK, scores_BK.cpu().gather(1, order_BK).double())


def draw(candidates: Candidates, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token a row with one uniform number of the row's generator (inverse of the cumulative sum).

    Args:
        candidates: at least one of each row's may come.
        generators: one a row, each advanced by exactly one number.

    Returns:
        (B,) token ids.
    """
    uniform_B1 = torch.cat([torch.rand(1, 1, generator=g, dtype=torch.float64) for g in generators])
    logits_BK = candidates.logits_BK
    # Not normalised: a running sum does not notice tokens of weight 0, so neighbours with more of them than
    # this row change nothing.
    cumulative_BK = (logits_BK - logits_BK.amax(dim=1, keepdim=True)).exp_()
    torch.cumsum(cumulative_BK, dim=1, out=cumulative_BK)
    # A uniform number is at most 1 - 2^-53, so the product is below the total even after rounding;
    # `right=True` steps over tokens of probability 0.
    target_B1 = uniform_B1 * cumulative_BK[:, -1:]
    places_B1 = torch.searchsorted(cumulative_BK, target_B1, right=True)
    return candidates.ids_BK.gather(1, places_B1)[:, 0]


class Sampler:
    """Options made ready for one vocabulary; any number of rows may share it.

    Raises:
        UserError: an option asks for what this vocabulary cannot give.
    """

    def __init__(self, options: SamplingOptions, tokenizer: Tokenizer) -> None:
        self.options = options
        self.ends = end_tokens(options, tokenizer)
        """the tokens that end a text"""
        self.greedy = options.temperature == 0
        self._processors = processors(options, tokenizer)
        self._filters = filters(options)

    def adjust(self, logits_BV: Tensor, histories: Sequence[History]) -> Tensor:
        """The scores after penalties and prohibitions: (B, V), float64 on the CPU unless there are none."""
        if not self._processors:
            return logits_BV
        logits_BV = logits_BV.cpu().to(torch.float64, copy=True)
        for logits_V, history in zip(logits_BV, histories, strict=True):
            for process in self._processors:
                process(logits_V, history)
        return logits_BV

    def candidates(self, logits_BV: Tensor, histories: Sequence[History]) -> Candidates:
        """What may be drawn, with the scores of the distribution to draw it from."""
        candidates = likeliest(self.adjust(logits_BV, histories), self.options.top_k)
        for keep in self._filters:
            candidates = keep(candidates)
        return candidates

    def choose(
        self, logits_BV: Tensor, histories: Sequence[History], generators: Sequence[torch.Generator]
    ) -> list[int | None]:
        """The next token of each row: at temperature 0 the likeliest (the lowest id of equals), else drawn.

        Args:
            logits_BV: (B, V) scores, on any device, in any floating type.
            histories: what came before, one a row.
            generators: one a row; untouched at temperature 0.

        Returns:
            One id a row; None where the options forbid every token.

        Raises:
            UserError: the scores are not finite: the weights are damaged.
        """
        require_finite(logits_BV)
        if self.greedy:
            scores_BV = self.adjust(logits_BV, histories)
            tokens = _argmax(scores_BV)
            possible = [True] * len(tokens)
            if self._processors:
                possible = scores_BV.amax(dim=1).isfinite().tolist()
        else:
            candidates = self.candidates(logits_BV, histories)
            possible = candidates.logits_BK.amax(dim=1).isfinite().tolist()
            if not all(possible):
                return self._choose_possible(candidates, possible, generators)
            tokens = draw(candidates, generators)
        return [token if may else None for token, may in zip(tokens.tolist(), possible, strict=True)]

    def _choose_possible(
        self, candidates: Candidates, possible: list[bool], generators: Sequence[torch.Generator]
    ) -> list[int | None]:
        """A draw for each row that has anything to draw from."""
        tokens: list[int | None] = [None] * len(possible)
        for b in (b for b, may in enumerate(possible) if may):
            row = Candidates(candidates.ids_BK[b : b + 1], candidates.logits_BK[b : b + 1])
            tokens[b] = int(draw(row, generators[b : b + 1]))
        return tokens


def _amax(scores_BV: Tensor) -> Tensor:
    """(B,) the highest score of each row; on the CPU by NumPy, which wakes no threads for it.

    PyTorch's threads go on spinning for a while, and the CPU engine's would share the cores with them.
    """
    if scores_BV.device.type == "cpu" and scores_BV.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(scores_BV.numpy().max(axis=1))
    return scores_BV.amax(dim=1)


def _argmax(scores_BV: Tensor) -> Tensor:
    """(B,) the likeliest of each row; on the CPU by NumPy, twenty times as fast as PyTorch's."""
    if scores_BV.device.type == "cpu" and scores_BV.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(scores_BV.numpy().argmax(axis=1))
    return scores_BV.argmax(dim=1)


def require_finite(logits_BV: Tensor) -> None:
    """Raise a `UserError` if the model's scores are not numbers."""
    if not _amax(logits_BV).isfinite().all():
        raise UserError(
            "the model's scores are not finite numbers",
            fix="Its weights are damaged or its training diverged; use an earlier checkpoint",
        )
