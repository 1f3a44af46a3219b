"""How much memory a device needs to train a model, by part, before anything is built.

At its peak a step holds what always stays (weights, optimizer state) and what one micro-batch leaves for its
backward pass. Gradients are there as well where a step has several micro-batches; with one, they come as the
activations go, and the peak is at the beginning of the backward pass or at its end. Weights, gradients and
AdamW's two moments are float32, Muon keeps one number a matrix entry. In shares (FSDP) each process has its
part of those, and one block at a time whole.

A token leaves, in each block, about `_ACTIVATIONS` bytes a channel: the residual stream in float32, and the
inputs of products, normalisations and of the activation in the precision of the products (compare Korthikanti
et al. 2022, equation 1, which counts 34 in 16 bits with dropout's masks; compiled code computes some anew).
Where attention is made of plain products (`step.plain_attention`) its T x T weights come on top.
"""

from dataclasses import dataclass, replace
from typing import Literal

from gpt2lab.model.config import ModelConfig, count_parameters
from gpt2lab.training.loss import CPU_CHUNK, GPU_CHUNK

Precision = Literal["bfloat16", "float32"]
Optimizer = Literal["adamw", "muon"]
_FLOAT32 = 4
_BYTES = {"bfloat16": 2, "float32": 4}

# Fitted to peak resident memory on CPUs (benchmarks/preflight_accuracy.py --fit prints them anew), but for
# float32's activations, which two machines gave as 72 and 78: they are counted, 16 numbers a channel.
_ACTIVATIONS = {"bfloat16": 41.6, "float32": 64.0}  # bytes a token, block and channel
_SCORES = 4.69  # copies of the T x T attention weights that the plain kernel leaves or needs at once
_KERNEL_SCORES = 4  # bytes a thread of `kernels/attention.h` keeps for a pair of tokens
_RUNTIME = {"compiled": 404e6, "eager": 60e6}  # libraries loaded late, thread stacks, the compiler's own
_GPU_RUNTIME = 600e6  # CUDA's context, cuBLAS' and cuDNN's workspaces


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one device at the peak of a step, by part; what is not there at that moment counts 0."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    runtime: int

    @property
    def total(self) -> int:
        """All parts."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss + self.runtime


@dataclass(frozen=True)
class Placing:
    """What decides the memory besides the model.

    Args:
        micro_batch: sequences computed at once on a device.
        accumulates: whether a step has several of them.
        optimizer: which one.
        precision: of matrix products.
        device: "cpu" or a GPU's type.
        compiled: whether the step is.
        shares: over how many processes weights, gradients and state are dealt out; 1 but with FSDP.
        recompute: whether blocks keep only their inputs (`training.recompute`).
        plain_attention: whether attention's weights are written to memory.
        fused_attention: how many threads compute attention by a kernel of ours, each with memory of its own.
    """

    micro_batch: int
    accumulates: bool = True
    optimizer: Optimizer = "adamw"
    precision: Precision = "bfloat16"
    device: str = "cuda"
    compiled: bool = True
    shares: int = 1
    recompute: bool = False
    plain_attention: bool = False
    fused_attention: int = 0


def memory_plan(model: ModelConfig, placing: Placing) -> MemoryPlan:
    """What training needs on each device.

    FSDP leaves gradients whole in every process until the last micro-batch of a step, which adds them up.
    """
    parameters = count_parameters(model)
    share = -(-parameters // placing.shares)
    whole_block = 2 * _FLOAT32 * _block_parameters(model) if placing.shares > 1 else 0
    tokens = placing.micro_batch * model.context_length
    plan = MemoryPlan(
        weights=_FLOAT32 * share + whole_block,
        gradients=_FLOAT32 * (parameters if placing.accumulates else share),
        optimizer=_state(model, placing) // placing.shares,
        activations=round(tokens * activation_bytes(model, placing)),
        loss=loss_bytes(model, tokens, placing),
        runtime=round(_runtime(placing)) + placing.fused_attention * _KERNEL_SCORES * model.context_length**2,
    )
    if placing.accumulates:
        return plan
    at_the_beginning, at_the_end = replace(plan, gradients=0), replace(plan, activations=0)
    return max(at_the_beginning, at_the_end, key=lambda moment: moment.total)


def activation_bytes(model: ModelConfig, placing: Placing) -> float:
    """Bytes that a token leaves in all blocks for the backward pass."""
    scores = model.n_head * model.context_length if placing.plain_attention else 0
    a_block = _ACTIVATIONS[placing.precision] * model.n_embd + _SCORES * _BYTES[placing.precision] * scores
    if placing.recompute:  # every block's input, and all of the one that is computed anew
        return model.n_layer * _FLOAT32 * model.n_embd + a_block
    return model.n_layer * a_block


def loss_bytes(model: ModelConfig, tokens: int, placing: Placing) -> int:
    """Bytes of the head and the loss at the beginning of the backward pass (see `training.loss`).

    The output matrix's gradient as it was made, and beside it first a chunk's logits, then, when these are
    gone, itself scaled; embedding and output being one matrix, the two are added up there, too.
    """
    chunk = min(tokens, CPU_CHUNK if placing.device == "cpu" else GPU_CHUNK)
    # On a GPU logits, their logarithms and slopes are there at once, the middle ones in float32.
    copies = _BYTES[placing.precision] if placing.device == "cpu" else 2 * _BYTES[placing.precision] + 8
    head = _FLOAT32 * model.vocab_size * model.n_embd
    return head + max(chunk * model.vocab_size * copies, head)


def _state(model: ModelConfig, placing: Placing) -> int:
    """Bytes of optimizer state of a whole model."""
    matrices = model.n_layer * (4 * model.n_embd**2 + 2 * model.n_embd * model.inner_width)
    by_adamw = count_parameters(model) - (matrices if placing.optimizer == "muon" else 0)
    return 2 * _FLOAT32 * by_adamw + (_FLOAT32 * matrices if placing.optimizer == "muon" else 0)


def _block_parameters(model: ModelConfig) -> int:
    one, two = replace(model, n_layer=1), replace(model, n_layer=2)
    return count_parameters(two) - count_parameters(one)


def _runtime(placing: Placing) -> float:
    if placing.device != "cpu":
        return _GPU_RUNTIME
    return _RUNTIME["compiled" if placing.compiled else "eager"]


def with_largest_micro_batch(model: ModelConfig, placing: Placing, memory: float) -> Placing:
    """With as many sequences at once as fit; blocks computed anew if not even one does; 0 if still none."""
    for recompute in (placing.recompute, True):
        placing = replace(placing, recompute=recompute)
        found = largest_micro_batch(model, placing, memory)
        if found:
            break
    return replace(placing, micro_batch=found)


def largest_micro_batch(model: ModelConfig, placing: Placing, memory: float) -> int:
    """The most sequences at once with which training fits into so many bytes; 0 if not even one does."""
    one = memory_plan(model, replace(placing, micro_batch=1))
    if one.total > memory:
        return 0
    low, high = 1, 2
    while memory_plan(model, replace(placing, micro_batch=high)).total <= memory:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if memory_plan(model, replace(placing, micro_batch=middle)).total <= memory:
            low = middle
        else:
            high = middle
    return low
