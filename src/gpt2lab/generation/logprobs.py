"""Log-probabilities of tokens, and of the likeliest ones in their place, by the model alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2lab.generation.decoder import Decoder
from gpt2lab.generation.results import TokenLogprob

_POSITIONS_AT_ONCE = 64  # of a prompt: (64, V) scores are 13 MB at V = 50,257


def token_logprobs(logits_NV: Tensor, tokens: Sequence[int], n_top: int) -> list[TokenLogprob]:
    """How likely each of N tokens is by the scores it was chosen from, and the `n_top` likeliest."""
    log_probs_NV = logits_NV.cpu().double().log_softmax(dim=1)
    own_N = log_probs_NV[torch.arange(len(tokens)), torch.tensor(tokens, dtype=torch.long)]
    if not n_top:
        return [TokenLogprob(token, own) for token, own in zip(tokens, own_N.tolist(), strict=True)]
    top_NK, ids_NK = log_probs_NV.topk(min(n_top, log_probs_NV.size(1)))
    tops = [tuple(zip(i, p, strict=True)) for i, p in zip(ids_NK.tolist(), top_NK.tolist(), strict=True)]
    return [
        TokenLogprob(token, own, top) for token, own, top in zip(tokens, own_N.tolist(), tops, strict=True)
    ]


def prompt_logprobs(
    decoder: Decoder, hidden_TC: Tensor, prompt: Sequence[int], vocab_size: int, n_top: int
) -> list[TokenLogprob]:
    """One for each of a prompt's tokens, from the hidden states of all of them."""
    found = [TokenLogprob(prompt[0], None)]
    for first in range(0, len(prompt) - 1, _POSITIONS_AT_ONCE):
        following = prompt[first + 1 : first + 1 + _POSITIONS_AT_ONCE]
        logits_NV = decoder.logits(hidden_TC[first : first + len(following)])[:, :vocab_size]
        found += token_logprobs(logits_NV, following, n_top)
    return found
