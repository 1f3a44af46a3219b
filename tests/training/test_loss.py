"""The chunked loss against PyTorch's own in float64: value and gradients, on every way it can be computed."""

import pytest
import torch
import torch.nn.functional as F

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training import cpu_kernels, loss
from gpt2lab.training.loss import summed_loss
from gpt2lab.training.step import determinism

# How far value and gradients may be off, relative to their norm: bfloat16 has 8 bits.
TOLERANCE = {torch.float32: (1e-6, 2e-6), torch.bfloat16: (3e-3, 2e-2)}
SHAPES = [
    (70, 32, 4999),
    (1500, 24, 1003),
    (33, 48, 100),
    (1, 8, 3),
    (1030, 16, 4097),
]  # tokens, width, words


def head_by_kernels(x_NC, weight_VC, targets_N):
    return loss._cpu_head(x_NC, weight_VC, targets_N, True)[0]


def head_in_plain_torch(x_NC, weight_VC, targets_N):
    return loss._ChunkedHead.apply(x_NC, weight_VC, targets_N, True)


@pytest.fixture(params=["kernels", "no kernels", "plain"])
def head(request, monkeypatch):
    """The loss of hidden states, output matrix and targets: the operator with and without C++, the GPU's."""
    if request.param == "plain":
        return head_in_plain_torch
    if request.param == "no kernels":
        monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    elif cpu_kernels.kernels() is None:
        pytest.skip(cpu_kernels.why_not())
    return head_by_kernels


def case(n_tokens, width, n_words, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_NC = torch.randn(n_tokens, width, generator=generator)
    weight_VC = torch.randn(n_words, width, generator=generator) / 3
    targets_N = torch.randint(n_words, (n_tokens,), generator=generator)
    targets_N[::7] = -100
    targets_N[-1] = n_words - 1  # in the last, incomplete vector of a row
    return x_NC, weight_VC, targets_N


def off(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradients_are_cross_entropys(head, shape, dtype):
    x_NC, weight_VC, targets_N = case(*shape)
    exact = [tensor.double().requires_grad_() for tensor in (x_NC, weight_VC)]
    expected = F.cross_entropy(exact[0] @ exact[1].T, targets_N, reduction="sum")
    (expected / 7).backward()
    ours = [tensor.requires_grad_() for tensor in (x_NC, weight_VC)]
    found = head(ours[0].to(dtype), ours[1], targets_N)
    (found / 7).backward()
    of_value, of_gradient = TOLERANCE[dtype]
    assert found.item() == pytest.approx(expected.item(), rel=of_value)
    assert all(off(mine.grad, its.grad) < of_gradient for mine, its in zip(ours, exact, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_it_is_the_same_every_time_and_for_any_number_of_threads(dtype):
    x_NC, weight_VC, targets_N = case(1030, 64, 5003)
    before = torch.get_num_threads()
    found = []
    for n_threads in (1, 2, 2):
        torch.set_num_threads(n_threads)
        found.append(loss._cpu_head(x_NC.to(dtype), weight_VC, targets_N, True))
    torch.set_num_threads(before)
    kept = found if cpu_kernels.has_products() and dtype == torch.bfloat16 else found[1:]
    assert all(torch.equal(a, b) for others in kept[1:] for a, b in zip(kept[0], others, strict=True))


def test_without_gradients_the_loss_is_the_same_and_nothing_else_is_made():
    x_NC, weight_VC, targets_N = case(70, 32, 499)
    value, *gradients = loss._cpu_head(x_NC, weight_VC, targets_N, False)
    assert torch.equal(value, loss._cpu_head(x_NC, weight_VC, targets_N, True)[0])
    assert all(gradient.numel() == 0 for gradient in gradients)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_is_no_number_stays_none(head, dtype, poison):
    x_NC, weight_VC, targets_N = case(40, 32, 100)
    x_NC[20, 5] = poison
    assert not head(x_NC.to(dtype).requires_grad_(), weight_VC, targets_N).isfinite()


def test_large_scores_do_not_overflow(head):
    x_NC, weight_VC, targets_N = case(40, 32, 100)
    exact = F.cross_entropy((x_NC.double() * 1e4) @ weight_VC.double().T, targets_N, reduction="sum")
    found = head((x_NC * 1e4).requires_grad_(), weight_VC, targets_N)
    assert found.item() == pytest.approx(exact.item(), rel=1e-6)


def test_targets_that_do_not_count_give_no_gradient(head):
    x_NC, weight_VC, targets_N = case(40, 32, 100)
    x_NC.requires_grad_()
    head(x_NC, weight_VC, torch.full_like(targets_N, -100)).backward()
    assert not x_NC.grad.any()


def small_model():
    config = ModelConfig(vocab_size=301, context_length=16, n_layer=2, n_head=2, n_embd=32)
    return GPT(config).initialise(torch.Generator().manual_seed(0)).train()


def reference_loss(model, inputs_BT, targets_BT):
    return F.cross_entropy(model(inputs_BT).flatten(0, 1), targets_BT.flatten(), reduction="sum")


@pytest.mark.parametrize("tied", [True, False])
def test_a_models_gradients_are_those_of_its_logits_loss(tied):
    """The tied output matrix gets the head's gradient and the embedding's."""
    model = small_model()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    inputs, targets = torch.randint(301, (2, 3, 16), generator=torch.Generator().manual_seed(1))
    gradients = []
    for function in (summed_loss, reference_loss):
        model.zero_grad()
        function(model, inputs, targets).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_compiled_it_is_one_graph_with_the_same_gradients(dtype):
    inputs, targets = torch.randint(301, (2, 3, 16), generator=torch.Generator().manual_seed(1))
    found = []
    with determinism(True), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        for function in (summed_loss, torch.compile(summed_loss, dynamic=False, fullgraph=True)):
            model = small_model()
            function(model, inputs, targets).backward()
            found.append({name: p.grad for name, p in model.named_parameters()})
    _, of_gradient = TOLERANCE[dtype]
    assert all(off(found[1][name], found[0][name]) < of_gradient for name in found[0])


def test_the_plain_head_makes_no_gradients_unless_asked():
    x_NC, weight_VC, targets_N = case(70, 32, 4999)

    class Record:
        def save_for_backward(self, *tensors):
            self.kept = tensors

    losses, kept = [], []
    for gradient in (True, False):
        record = Record()
        losses.append(loss._ChunkedHead.forward(record, x_NC, weight_VC, targets_N, gradient))
        kept.append([tuple(tensor.shape) for tensor in record.kept])
    assert torch.equal(*losses)
    assert kept == [[(70, 32), (4999, 32)], [(0, 32), (0, 32)]]


@pytest.mark.slow
def test_the_plain_head_compiles_to_the_same():
    x_NC, weight_VC, targets_N = case(70, 32, 4999)
    weight_VC.requires_grad_()
    found = []
    for function in (head_in_plain_torch, torch.compile(head_in_plain_torch, fullgraph=True)):
        weight_VC.grad = None
        function(x_NC, weight_VC, targets_N).backward()
        found.append(weight_VC.grad)
    assert off(*found) < 1e-6
