"""Activations computed anew in the backward pass instead of kept: less memory, more time.

Between the passes a block keeps only its input, a tenth (bfloat16) or a twentieth (float32) of what it keeps
otherwise; its forward pass runs twice, so a step takes up to a third longer (Chen et al. 2016). The numbers
are the same, dropout's too.
"""

from functools import partial

from torch.utils.checkpoint import checkpoint

from gpt2lab.model.gpt import GPT


def recompute_blocks(model: GPT) -> None:
    """Let every block of the model keep only its input for the backward pass."""
    for block in model.h:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
