"""From scores to a token: processors that reshape the distribution, then one draw from it.

A processor takes (B, V) scores and returns (B, V) scores, minus infinity where a token may not be drawn.
They apply in the order of `processors`. Everything runs on the CPU in float64 with each row's own generator,
so a row's tokens depend neither on its neighbours in the batch nor on the device that computed the scores.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.generation.options import SamplingOptions

Processor = Callable[[Tensor], Tensor]

_HEAD = 1024  # likeliest tokens that top-p looks at before it sorts all: seven times faster at V = 50,257


def apply_temperature(logits_BV: Tensor, temperature: float) -> Tensor:
    """Divide by the temperature: below 1 the likely become likelier, above 1 all become more equal."""
    return logits_BV / temperature


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Keep the k likeliest tokens, and any as likely as the k-th (Fan et al. 2018, section 5.4)."""
    kth_B1 = logits_BV.topk(min(k, logits_BV.size(1))).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Keep the nucleus: the fewest likeliest tokens whose probabilities reach p together.

    The token that crosses p is part of it, so at least one always stays (Holtzman et al. 2020, section 3.1).
    """
    probs_BV = logits_BV.softmax(dim=1)
    likeliest_BK, ids_BK = probs_BV.topk(min(_HEAD, probs_BV.size(1)))
    if (likeliest_BK.sum(dim=1) < p).any():
        likeliest_BK, ids_BK = probs_BV.sort(descending=True)
    before_BK = likeliest_BK.cumsum(dim=1) - likeliest_BK
    kept_BV = torch.zeros_like(probs_BV, dtype=torch.bool).scatter(1, ids_BK, before_BK < p)
    return logits_BV.masked_fill(~kept_BV, -torch.inf)


def processors(options: SamplingOptions) -> list[Processor]:
    """The processors that `options` ask for, in the order in which they apply."""
    chain: list[Processor] = [partial(apply_temperature, temperature=options.temperature)]
    if options.top_k:
        chain.append(partial(keep_top_k, k=options.top_k))
    if options.top_p < 1:
        chain.append(partial(keep_top_p, p=options.top_p))
    return chain


def draw(logits_BV: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token a row with one uniform number of the row's generator (inverse of the cumulative sum).

    Args:
        logits_BV: (B, V) float64 scores on the CPU.
        generators: one a row, each advanced by exactly one number.

    Returns:
        (B,) token ids.
    """
    uniform_B1 = torch.cat([torch.rand(1, 1, generator=g, dtype=torch.float64) for g in generators])
    cumulative_BV = logits_BV.softmax(dim=1).cumsum(dim=1)
    # A uniform number is at most 1 - 2^-53, so the product is below the total even after rounding;
    # `right=True` steps over tokens of probability 0.
    target_B1 = uniform_B1 * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]


def choose(logits_BV: Tensor, options: SamplingOptions, generators: Sequence[torch.Generator]) -> list[int]:
    """The next token of each row: the likeliest at temperature 0 (the lowest id among equals), else drawn.

    Args:
        logits_BV: (B, V) scores, on any device, in any floating type.
        options: the same for all rows.
        generators: one a row; untouched at temperature 0.

    Raises:
        UserError: the scores are not finite: the weights are damaged.
    """
    if not logits_BV.amax(dim=1).isfinite().all():
        raise UserError(
            "the model's scores are not finite numbers",
            fix="Its weights are damaged or its training diverged; use an earlier checkpoint",
        )
    if options.temperature == 0:
        greedy: list[int] = logits_BV.argmax(dim=1).tolist()
        return greedy
    logits_BV = logits_BV.cpu().double()
    for process in processors(options):
        logits_BV = process(logits_BV)
    drawn: list[int] = draw(logits_BV, generators).tolist()
    return drawn
