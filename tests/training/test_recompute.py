"""Recomputed activations: nothing of what a step does may change but its memory."""

import pytest
import torch

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training.loss import summed_loss
from gpt2lab.training.recompute import recompute_blocks


def small_model():
    rates = {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}
    config = ModelConfig(vocab_size=101, context_length=16, n_layer=3, n_head=2, n_embd=32, **rates)
    return GPT(config).initialise(torch.Generator().manual_seed(0)).train()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_bit_equal_with_dropout(dtype):
    inputs, targets = torch.randint(101, (2, 3, 16), generator=torch.Generator().manual_seed(1))
    kept, recomputed = small_model(), small_model()
    recompute_blocks(recomputed)
    losses = []
    for model in (kept, recomputed):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = summed_loss(model, inputs, targets)
        loss.backward()
        losses.append(loss)
    assert torch.equal(*losses)
    for ours, theirs in zip(recomputed.parameters(), kept.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_less_is_kept_and_the_models_names_stay():
    inputs, targets = torch.randint(101, (2, 3, 16), generator=torch.Generator().manual_seed(1))
    kept, model = [], small_model()
    for recompute in (False, True):
        if recompute:
            recompute_blocks(model)
        numbers = 0

        def keep(tensor):
            nonlocal numbers
            numbers += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            summed_loss(model, inputs, targets)
        kept.append(numbers)
    assert kept[1] < kept[0] / 2
    assert model.state_dict().keys() == small_model().state_dict().keys()


def test_a_run_that_recomputes_is_the_same_run(make_recipe, train_in, tmp_path, timeless, with_dropout):
    plain = train_in(tmp_path / "plain", make_recipe(**with_dropout))
    recomputing = train_in(tmp_path / "recomputing", make_recipe(recompute_activations=True, **with_dropout))
    assert timeless(plain) == timeless(recomputing)
