"""Floating-point operations a token costs in training, by the convention that most published figures follow.

We count as PaLM does (Chowdhery et al. 2022, appendix B): 6 operations for each weight that takes part in a
matrix product (2 forward, 4 backward), and 12 x layers x context x channels for the attention scores and the
weighted sum of values, as if every token looked at a whole context. nanoGPT and llm.c count so too, so their
model FLOPs utilisations (MFU) compare with ours. Elsewhere:

- Kaplan et al. 2020, section 2.1: 6N with N the weights of the blocks alone: neither attention nor head.
- Hoffmann et al. 2022 (Chinchilla), appendix F: also the softmax and the embedding as a matrix product.

Recomputing activations is no model FLOP: it lowers tokens a second and with them the MFU, as it should.
"""

from dataclasses import dataclass

from gpt2lab.model.config import ModelConfig

_A_WEIGHT = 6  # 2 forward, 2 for the gradient of the input, 2 for that of the weight


@dataclass(frozen=True)
class TokenFlops:
    """Operations a token, forward and backward, by part."""

    blocks: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.blocks + self.attention + self.head


def flops_per_token(config: ModelConfig) -> TokenFlops:
    """Operations a training token costs.

    >>> flops_per_token(ModelConfig()).blocks == 6 * 12 * 12 * 768**2
    True
    """
    matrices = 4 * config.n_embd**2 + 2 * config.n_embd * config.inner_width
    return TokenFlops(
        blocks=_A_WEIGHT * config.n_layer * matrices,
        attention=2 * _A_WEIGHT * config.n_layer * config.context_length * config.n_embd,
        head=_A_WEIGHT * config.vocab_size * config.n_embd,
    )
