import numpy as np
import pytest
import torch

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.parallel import Placement
from gpt2lab.training.recipe import OptimizerConfig

SHAPE = {"vocab_size": 50, "context_length": 8, "n_layer": 2, "n_head": 2, "n_embd": 16}


@pytest.fixture
def make_model():
    """A maker of models of one shape in which no number is zero."""

    def make(**changes):
        model = GPT(ModelConfig(**(SHAPE | changes)))
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            parameter.data.normal_(generator=generator)
        return model

    return make


def fill_gradients(model, step, scale=1.0):
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


def values(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("tied", [True, False])
def test_decay_shrinks_matrices_and_nothing_else(make_model, name, tied):
    model = make_model(tie_word_embeddings=tied)
    config = OptimizerConfig(name=name, learning_rate=0.5, muon_learning_rate=0.25, weight_decay=0.1)
    optimizers = Optimizers(Placement(model), config)
    before = values(model)
    fill_gradients(model, 0, scale=0.0)
    optimizers.step(0.5)
    for parameter, value in values(model).items():
        with_muon = name == "muon" and parameter.startswith("h.") and value.dim() == 2
        learning_rate = 0.5 * (0.25 if with_muon else 0.5)
        kept = 1 - learning_rate * 0.1 if value.dim() == 2 else 1.0
        torch.testing.assert_close(value, before[parameter] * kept, rtol=1e-6, atol=1e-7)


def test_muon_has_the_blocks_matrices_and_nothing_else(make_model):
    model = make_model()
    optimizers = Optimizers(Placement(model), OptimizerConfig(name="muon"))
    fill_gradients(model, 0)
    optimizers.step(1.0)
    fields = {}
    for key in optimizers.state():
        name, _, field = key.rpartition("/")
        fields.setdefault(name, set()).add(field)
    of_muon = {name for name in values(model) if name.startswith("h.") and name.endswith("weight")}
    of_muon = {name for name in of_muon if "ln" not in name}
    of_adamw = set(values(model)) - of_muon
    parts = {name for name in of_muon if "c_attn" not in name}
    parts |= {f"h.{layer}.attn.c_attn.weight.{part}" for layer in range(2) for part in "qkv"}
    assert fields == {name: {"momentum_buffer"} for name in parts} | {
        name: {"step", "exp_avg", "exp_avg_sq"} for name in of_adamw
    }


def test_muon_moves_matrices_by_nearly_orthogonal_steps(make_model):
    model = make_model()
    optimizers = Optimizers(
        Placement(model), OptimizerConfig(name="muon", muon_learning_rate=0.1, weight_decay=0.0)
    )
    before = values(model)
    fill_gradients(model, 0)
    optimizers.step(1.0)
    for name, value in values(model).items():
        if name.startswith("h.") and value.dim() == 2:
            moved = value - before[name]
            for part in moved.chunk(3) if "c_attn" in name else [moved]:
                lengths = torch.linalg.svdvals(part)
                assert lengths.max() < 3 * lengths.min()  # the gradient's own spread far more


def test_queries_keys_and_values_are_three_matrices_of_shape_out_in(make_model):
    """Each moves as torch.optim.Muon moves it alone; tall ones by sqrt(out / in): orientation decides."""
    config = OptimizerConfig(name="muon", muon_learning_rate=0.1, weight_decay=0.1, muon_momentum=0.9)
    model = make_model()
    optimizers = Optimizers(Placement(model), config)
    alone = {}
    for name, value in values(model).items():
        if name.startswith("h.") and value.dim() == 2:
            parts = value.chunk(3) if "c_attn" in name else [value]
            alone[name] = [torch.nn.Parameter(part.clone()) for part in parts]
    every = [part for parts in alone.values() for part in parts]
    assert {tuple(part.shape) for part in every} == {(16, 16), (64, 16), (16, 64)}
    muon = torch.optim.Muon(every, lr=0.1, weight_decay=0.1, momentum=0.9)
    for step in range(3):
        fill_gradients(model, step)
        for name, parts in alone.items():
            gradients = model.get_parameter(name).grad.chunk(len(parts))
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = gradient.clone()
        muon.step()
        optimizers.step(1.0)
    for name, parts in alone.items():
        assert torch.equal(values(model)[name], torch.cat(list(parts)).detach())


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_put_into_a_new_optimizer_continues_identically(make_model, name):
    config = OptimizerConfig(name=name)
    model = make_model()
    optimizers = Optimizers(Placement(model), config)
    for step in range(3):
        fill_gradients(model, step)
        optimizers.step(1.0 - 0.1 * step)

    other = make_model()
    other.load_state_dict({key: value.clone() for key, value in model.state_dict().items()})
    resumed = Optimizers(Placement(other), config)
    resumed.load_state({key: value.clone() for key, value in optimizers.state().items()})
    for step in range(3, 6):
        for one, its_optimizers in ((model, optimizers), (other, resumed)):
            fill_gradients(one, step)
            its_optimizers.step(1.0 - 0.1 * step)
    ours, theirs = values(model), values(other)
    assert all(torch.equal(ours[parameter], theirs[parameter]) for parameter in ours)
    ours, theirs = optimizers.state(), resumed.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_steps_are_adamw_as_published(make_model):
    """Against algorithm 2 of "Decoupled Weight Decay Regularization", by hand in float64."""
    config = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, beta1=0.8, beta2=0.9)
    model = make_model()
    optimizers = Optimizers(Placement(model), config)
    expected = {name: value.double().numpy() for name, value in values(model).items()}
    momentum = {name: np.zeros_like(value) for name, value in expected.items()}
    squares = {name: np.zeros_like(value) for name, value in expected.items()}
    for step in range(1, 6):
        fill_gradients(model, step)
        for name, parameter in model.named_parameters():
            gradient = parameter.grad.double().numpy()
            rate = 1e-2 * step / 5
            momentum[name] = 0.8 * momentum[name] + 0.2 * gradient
            squares[name] = 0.9 * squares[name] + 0.1 * gradient**2
            update = momentum[name] / (1 - 0.8**step) / (np.sqrt(squares[name] / (1 - 0.9**step)) + 1e-8)
            decay = 0.1 * expected[name] if parameter.dim() == 2 else 0.0
            expected[name] = expected[name] - rate * (update + decay)
        optimizers.step(step / 5)
    for name, value in values(model).items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-6)
