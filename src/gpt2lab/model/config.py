"""The shape of a model: GPT-1, GPT-2's four sizes, GPT-3's small ones, or any of your own.

Sources: GPT-1, "Improving Language Understanding by Generative Pre-Training" (2018), section 4.1; GPT-2,
"Language Models are Unsupervised Multitask Learners" (2019), table 2 with the corrected parameter counts of
the released code; GPT-3, "Language Models are Few-Shot Learners" (2020), table 2.1. GPT-3 alternates dense
and locally banded sparse attention; here every layer is dense. Its XL row prints 24 heads of 128 for a
width of 2048; 16 heads of 128 is the reading that adds up.
"""

from dataclasses import dataclass
from typing import Any, Literal

from gpt2lab.base.errors import UserError

Architecture = Literal["gpt1", "gpt2"]
Activation = Literal["gelu_new", "gelu", "relu", "silu"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the function a model computes. The defaults are GPT-2 small (124M)."""

    architecture: Architecture = "gpt2"
    """gpt1: LayerNorm after each sub-layer (post-LN); gpt2: before it, and once more at the end (pre-LN)"""
    vocab_size: int = 50_257
    """number of token ids (V)"""
    context_length: int = 1024
    """most tokens the model can look at: one learned position vector each"""
    n_layer: int = 12
    """transformer blocks"""
    n_head: int = 12
    """attention heads (H); must divide n_embd"""
    n_embd: int = 768
    """width of the residual stream (C)"""
    n_inner: int | None = None
    """width of the feed-forward layer; 4 x n_embd where not given"""
    activation: Activation = "gelu_new"
    """gelu_new is the tanh approximation that all published GPT models use"""
    layer_norm_epsilon: float = 1e-5
    """added to the variance in LayerNorm"""
    embd_pdrop: float = 0.0
    """dropout after the embeddings (GPT-1 and the released GPT-2 configurations: 0.1)"""
    attn_pdrop: float = 0.0
    """dropout on the attention weights"""
    resid_pdrop: float = 0.0
    """dropout on the output of each sub-layer"""
    tie_word_embeddings: bool = True
    """use the token embedding as the output matrix, as every published GPT model does"""
    scale_attn_weights: bool = True
    """divide attention scores by sqrt(n_embd / n_head)"""
    scale_attn_by_inverse_layer_idx: bool = False
    """also divide them by the layer's number, counted from 1 (Stanford's Mistral GPT-2 runs)"""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd", "inner_width"):
            if getattr(self, name) < 1:
                raise _bad(name, f"is {getattr(self, name)}", "It must be at least 1")
        if self.n_embd % self.n_head:
            raise _bad("n_head", f"{self.n_head} does not divide n_embd {self.n_embd}", "Choose a divisor")
        for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise _bad(name, f"is {getattr(self, name)}", "A dropout rate is at least 0 and below 1")

    @property
    def inner_width(self) -> int:
        """Width of the feed-forward layer."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def head_width(self) -> int:
        """Width of one attention head (D)."""
        return self.n_embd // self.n_head

    @staticmethod
    def preset(name: str) -> "ModelConfig":
        """A published size by its name, for example ``"gpt2-xl"``.

        Raises:
            UserError: there is no size of that name; the known ones are listed.
        """
        if name not in PRESETS:
            raise UserError(f"unknown model size {name!r}", fix=f"Choose one of {', '.join(PRESETS)}")
        return PRESETS[name]


def _bad(field: str, what: str, fix: str) -> UserError:
    return UserError(what, where=f"model.{field}", fix=fix)


def _gpt1() -> ModelConfig:
    # The released vocabulary has 40,000 merges, 476 characters, <unk> and a line break.
    dropout: dict[str, Any] = {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}
    return ModelConfig("gpt1", vocab_size=40_478, context_length=512, **dropout)


PRESETS = {
    "gpt1": _gpt1(),
    "gpt2": ModelConfig(),
    "gpt2-medium": ModelConfig(n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": ModelConfig(n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": ModelConfig(n_layer=48, n_head=25, n_embd=1600),
    "gpt3-small": ModelConfig(context_length=2048),
    "gpt3-medium": ModelConfig(context_length=2048, n_layer=24, n_head=16, n_embd=1024),
    "gpt3-large": ModelConfig(context_length=2048, n_layer=24, n_head=16, n_embd=1536),
    "gpt3-xl": ModelConfig(context_length=2048, n_layer=24, n_head=16, n_embd=2048),
}


def count_parameters(config: ModelConfig) -> int:
    """Number of weights, the tied output matrix counted once.

    >>> count_parameters(ModelConfig.preset("gpt2-xl"))
    1557611200
    """
    c, inner = config.n_embd, config.inner_width
    layer_norm = 2 * c
    attention = c * 3 * c + 3 * c + c * c + c
    feed_forward = c * inner + inner + inner * c + c
    blocks = config.n_layer * (2 * layer_norm + attention + feed_forward)
    final_norm = layer_norm if config.architecture == "gpt2" else 0
    output = 0 if config.tie_word_embeddings else config.vocab_size * c
    return config.vocab_size * c + config.context_length * c + blocks + final_norm + output
