import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.loader import BatchLoader
from gpt2lab.data.shards import UINT16, Shard
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training import setup
from gpt2lab.training.loss import summed_loss
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.parallel import Placement
from gpt2lab.training.recipe import OptimizerConfig
from gpt2lab.training.step import TrainingStep, determinism

BATCH = 8


@pytest.fixture
def make_step():
    """A maker of steps on random tokens; the same arguments make the same step."""

    def make(micro_batch=2, clip_norm=1e9, dropout=0.0, dtype=torch.float32, **optimizer):
        shape = {"vocab_size": 100, "context_length": 16, "n_layer": 2, "n_head": 2, "n_embd": 32}
        rates = {"embd_pdrop": dropout, "attn_pdrop": dropout, "resid_pdrop": dropout}
        model = GPT(ModelConfig(**shape, **rates)).initialise(torch.Generator().manual_seed(0)).train()
        tokens = np.random.default_rng(0).integers(0, 100, 2000).astype(UINT16.dtype)
        dataset = TokenDataset(Path("nowhere"), "train", [Shard(Path("x.bin"), UINT16, tokens)], None, 100)
        placement = Placement(model)
        return TrainingStep(
            placement,
            Optimizers(placement, OptimizerConfig(**optimizer)),
            BatchLoader(dataset, 16, BATCH, seed=1),
            micro_batch=micro_batch,
            seed=5,
            clip_norm=clip_norm,
            dtype=dtype,
        )

    return make


@pytest.fixture
def gradients_of(monkeypatch):
    """The gradients that a step hands to its optimizers, and its outcome."""

    def record(step, number=0):
        found = {}

        def keep(learning_rate_factor):
            found.update({name: p.grad.clone() for name, p in step.model.named_parameters()})
            step.optimizers.zero_grad()

        monkeypatch.setattr(step.optimizers, "step", keep)
        return found, step.take(number, 1.0)

    return record


def weights(step):
    return {name: value.clone() for name, value in step.model.state_dict().items()}


def same(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_loss_is_the_sum_of_negative_log_probabilities(make_step):
    model = make_step().model.eval()
    inputs, targets = torch.randint(100, (3, 16)), torch.randint(100, (3, 16))
    targets[1, 4:] = -100
    log_p = model(inputs).double().log_softmax(-1).detach().numpy()
    by_hand = -sum(log_p[b, t, targets[b, t]] for b in range(3) for t in range(16) if targets[b, t] != -100)
    assert summed_loss(model, inputs, targets).item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4])
def test_the_gradient_does_not_depend_on_the_micro_batch(make_step, gradients_of, micro_batch):
    expected, outcome = gradients_of(make_step(micro_batch=BATCH))
    found, its_outcome = gradients_of(make_step(micro_batch=micro_batch))
    assert its_outcome.loss == pytest.approx(outcome.loss, rel=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_the_mean_over_the_global_batch(make_step, gradients_of):
    found, outcome = gradients_of(make_step())
    step = make_step()
    inputs, targets = next(step.loader.micro_batches(0, BATCH))
    logits = step.model(inputs)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-6)
    for name, parameter in step.model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_the_norm_and_the_outcome_tells_the_norm_before(make_step, gradients_of):
    free, outcome = gradients_of(make_step())
    norm = math.sqrt(sum(gradient.double().square().sum().item() for gradient in free.values()))
    assert outcome.gradient_norm == pytest.approx(norm, rel=1e-5)
    clipped, its_outcome = gradients_of(make_step(clip_norm=norm / 4))
    assert its_outcome.gradient_norm == pytest.approx(norm, rel=1e-5)
    for name, gradient in free.items():
        torch.testing.assert_close(clipped[name], gradient / 4, rtol=1e-4, atol=1e-7)


def test_a_step_learns_and_forgets_its_gradients(make_step):
    step = make_step(learning_rate=1e-2)
    losses = [step.take(0, 1.0).loss for _ in range(20)]
    assert losses[-1] < losses[0] - 1
    assert all(parameter.grad is None for parameter in step.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_step_does_follows_from_its_number(make_step, dtype):
    """Dropout too, whatever was drawn from the global generator before."""
    with determinism(True):
        one, other = make_step(dropout=0.2, dtype=dtype), make_step(dropout=0.2, dtype=dtype)
        first = one.take(3, 1.0)
        torch.manual_seed(99)
        torch.rand(7)
        assert other.take(3, 1.0) == first
        assert same(weights(one), weights(other))
        assert one.take(3, 0.0).loss != one.take(4, 0.0).loss


def test_dropout_differs_between_micro_batches_and_steps(make_step):
    step = make_step(dropout=0.2)
    drawn = []

    def spy(model, inputs_BT, targets_BT):
        drawn.append(torch.rand(()).item())
        return summed_loss(model, inputs_BT, targets_BT)

    step.loss = spy
    step.take(0, 0.0)
    step.take(1, 0.0)
    assert len(set(drawn)) == 2 * BATCH // step.micro_batch


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_no_number_changes_nothing(make_step, name, poison):
    step = make_step(name=name)
    step.take(0, 1.0)
    before = weights(step)
    state = {key: value.clone() for key, value in step.optimizers.state().items()}
    step.loss = lambda model, inputs, targets: summed_loss(model, inputs, targets) * poison
    outcome = step.take(1, 1.0)
    assert outcome.skipped == f"the loss is {poison}"
    assert same(before, weights(step))
    assert same(state, step.optimizers.state())
    step.loss = summed_loss
    assert not step.take(2, 1.0).skipped
    assert all(value.isfinite().all() for value in step.model.state_dict().values())


def test_a_gradient_that_is_no_number_changes_nothing(make_step):
    step = make_step()
    before = weights(step)

    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            return loss.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.nan

    step.loss = lambda model, inputs, targets: Poisoned.apply(summed_loss(model, inputs, targets))
    assert step.take(0, 1.0).skipped == "the gradient norm is nan"
    assert same(before, weights(step))


def test_a_weight_that_is_no_number_is_noticed(make_step):
    step = make_step()
    with torch.no_grad():
        step.model.wte.weight[3, 3] = math.nan
    assert step.take(0, 1.0).skipped == "the loss is nan"


def test_rehearsing_changes_nothing(make_step):
    step = make_step(dropout=0.2)
    before = weights(step)
    step.rehearse()
    assert same(before, weights(step))
    assert step.optimizers.state() == {}
    assert all(parameter.grad is None for parameter in step.model.parameters())


def test_determinism_is_put_back():
    before = torch.are_deterministic_algorithms_enabled()
    with determinism(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")  # or CUDA's products are refused
    assert torch.are_deterministic_algorithms_enabled() == before


def test_the_compiler_is_told_not_to_time_kernels(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = config.deterministic
    with determinism(True):
        assert config.deterministic
    assert config.deterministic == before
    with determinism(False):
        assert config.deterministic == before


def test_a_rehearsal_reads_no_data(make_recipe, sources, tokenizer, monkeypatch):
    session = setup.build_session(make_recipe(micro_batch=64), sources / "shards", tokenizer, None)
    monkeypatch.setattr(type(session.step.loader), "micro_batches", None)
    seen = []
    backward = session.step._backward
    monkeypatch.setattr(session.step, "_backward", lambda x, y, n: seen.append(x.shape) or backward(x, y, n))
    session.step.rehearse()
    assert seen == [(4, 16)]  # no more rows than a batch has
    assert all(parameter.grad is None for parameter in session.model.parameters())
