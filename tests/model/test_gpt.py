"""What the model promises by itself; its equality with `transformers` is tested with the checkpoints."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt2lab.model.config import Architecture, ModelConfig
from gpt2lab.model.gpt import GPT, KVCache

BOTH = pytest.mark.parametrize("architecture", ["gpt1", "gpt2"])


def random_model(architecture: Architecture, dtype: torch.dtype = torch.float64, **options: int) -> GPT:
    sizes = {"vocab_size": 31, "context_length": 12, "n_layer": 2, "n_head": 2, "n_embd": 16, **options}
    model = GPT(ModelConfig(architecture, **sizes)).to(dtype)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model.eval()


def new_cache(model: GPT, n_rows: int) -> KVCache:
    config = model.config
    return KVCache.allocate(
        config, n_rows, config.context_length, device=torch.device("cpu"), dtype=model.wte.weight.dtype
    )


def random_tokens(model: GPT, n_rows: int, n_tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(model.config.vocab_size, (n_rows, n_tokens), generator=generator)


def test_golden_logits(test_data: Path) -> None:
    """A tiny GPT-2 of `transformers`, kept by another project (axlearn) in its own names and layout."""
    golden = np.load(test_data / "golden/hf_gpt2_tiny/axlearn.common.causal_lm_test.npz")

    def read(name: str) -> Tensor:
        return torch.from_numpy(golden[f"test_against_hf_gpt2_lm/{name}"])

    def decoder(name: str) -> Tensor:
        return read(f"params/decoder/{name}")

    state = {
        "wte.weight": decoder("emb/token_emb/weight"),
        "wpe.weight": decoder("emb/pos_emb/weight")[0],
        "ln_f.weight": decoder("output_norm/scale"),
        "ln_f.bias": decoder("output_norm/bias"),
    }
    state["lm_head.weight"] = state["wte.weight"]
    for layer in range(2):
        theirs, ours = f"transformer/layer{layer}", f"h.{layer}"
        attention = f"{theirs}/self_attention/attention"
        kinds = ("q_proj", "k_proj", "v_proj")
        weights = [decoder(f"{attention}/i_proj/{kind}/weight").reshape(16, 16).t() for kind in kinds]
        biases = [decoder(f"{attention}/i_proj/{kind}/bias").reshape(16) for kind in kinds]
        state |= {
            f"{ours}.ln_1.weight": decoder(f"{theirs}/self_attention/norm/scale"),
            f"{ours}.ln_1.bias": decoder(f"{theirs}/self_attention/norm/bias"),
            f"{ours}.attn.c_attn.weight": torch.cat(weights),
            f"{ours}.attn.c_attn.bias": torch.cat(biases),
            f"{ours}.attn.c_proj.weight": decoder(f"{attention}/o_proj/weight").reshape(16, 16),
            f"{ours}.attn.c_proj.bias": decoder(f"{attention}/o_proj/bias"),
            f"{ours}.ln_2.weight": decoder(f"{theirs}/feed_forward/norm/scale"),
            f"{ours}.ln_2.bias": decoder(f"{theirs}/feed_forward/norm/bias"),
            f"{ours}.mlp.c_fc.weight": decoder(f"{theirs}/feed_forward/linear1/weight").t(),
            f"{ours}.mlp.c_fc.bias": decoder(f"{theirs}/feed_forward/linear1/bias"),
            f"{ours}.mlp.c_proj.weight": decoder(f"{theirs}/feed_forward/linear2/weight").t(),
            f"{ours}.mlp.c_proj.bias": decoder(f"{theirs}/feed_forward/linear2/bias"),
        }
    model = GPT(ModelConfig(vocab_size=24, context_length=11, n_layer=2, n_head=4, n_embd=16)).eval()
    model.load_state_dict(state)
    difference = (model(read("inputs/input_ids")) - read("outputs/logits")).abs().max().item()
    print(f"largest difference from the golden logits: {difference:.1e}")
    assert difference <= 2e-6


@BOTH
def test_a_token_sees_only_what_is_before_it(architecture: Architecture) -> None:
    model = random_model(architecture)
    tokens_BT = random_tokens(model, 1, 12)
    before_BTV = model(tokens_BT)
    for place in range(12):
        changed_BT = tokens_BT.clone()
        changed_BT[0, place] = (changed_BT[0, place] + 1) % 31
        same_T = (model(changed_BT) == before_BTV).all(dim=-1)[0]
        assert same_T[:place].all()
        assert not same_T[place:].any()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    architecture=st.sampled_from(["gpt1", "gpt2"]),
    cuts=st.lists(st.integers(1, 11), max_size=6, unique=True).map(sorted),
    n_rows=st.integers(1, 3),
)
def test_cached_equals_uncached_however_it_is_cut(
    architecture: Architecture, cuts: list[int], n_rows: int
) -> None:
    model = random_model(architecture)
    tokens_BT = random_tokens(model, n_rows, 12)
    cache = new_cache(model, n_rows)
    parts = []
    for start, end in zip([0, *cuts], [*cuts, 12], strict=True):
        positions_BT = torch.arange(start, end).expand(n_rows, -1)
        parts.append(model(tokens_BT[:, start:end], cache, positions_BT))
    assert torch.allclose(torch.cat(parts, dim=1), model(tokens_BT), atol=1e-12, rtol=0)


@BOTH
def test_rows_of_different_lengths_do_not_disturb_each_other(architecture: Architecture) -> None:
    """Prompts padded on the right, then one token a row, each at its own position."""
    model = random_model(architecture)
    tokens_BT = random_tokens(model, 3, 12)
    lengths_B = torch.tensor([2, 5, 3])
    cache = new_cache(model, 3)
    model(
        tokens_BT[:, :5], cache, torch.arange(5).expand(3, -1)
    )  # beyond its length, a row's slots hold padding
    for ahead in range(6):
        positions_B1 = (lengths_B + ahead)[:, None]
        logits_B1V = model(tokens_BT.gather(1, positions_B1), cache, positions_B1)
        for row, position in enumerate(positions_B1[:, 0].tolist()):
            alone_V = model(tokens_BT[row : row + 1, : position + 1])[0, -1]
            assert torch.allclose(logits_B1V[row, 0], alone_V, atol=1e-12, rtol=0)


def test_part_of_a_cache() -> None:
    model = random_model("gpt2")
    cache = new_cache(model, 4)
    cache.part(slice(1, 3), 2).keys_LBHSD.fill_(1.0)  # the same memory
    assert cache.keys_LBHSD[:, 1:3, :, :2].eq(1).all()
    assert cache.keys_LBHSD[:, 1:3, :, 2:].eq(0).all()
    assert cache.keys_LBHSD[:, 0].eq(0).all()


def test_misuse_is_said() -> None:
    model = random_model("gpt2")
    with pytest.raises(ValueError, match="13 tokens do not fit the context of 12"):
        model(torch.zeros(1, 13, dtype=torch.long))
    with pytest.raises(ValueError, match="given together"):
        model(torch.zeros(1, 1, dtype=torch.long), new_cache(model, 1))


@BOTH
def test_initialisation_is_the_papers(architecture: Architecture) -> None:
    config = ModelConfig(architecture, vocab_size=2000, context_length=256, n_layer=8, n_head=4, n_embd=128)
    model = GPT(config).initialise(torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            scaled = architecture == "gpt2" and name.endswith("c_proj.weight")
            expected = 0.02 / (4 if scaled else 1)  # 1/sqrt(2 x 8 layers)
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
            assert abs(parameter.mean().item()) < 5 * expected / parameter.numel() ** 0.5, name
        else:
            assert parameter.eq(0 if name.endswith("bias") else 1).all(), name
    assert model.lm_head.weight is model.wte.weight


def test_initialisation_follows_its_generator_alone() -> None:
    config = ModelConfig(vocab_size=50, context_length=8, n_layer=2, n_head=2, n_embd=16)
    torch.manual_seed(1)
    first = GPT(config).initialise(torch.Generator().manual_seed(3)).state_dict()
    torch.manual_seed(2)
    second = GPT(config).initialise(torch.Generator().manual_seed(3)).state_dict()
    other = GPT(config).initialise(torch.Generator().manual_seed(4)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["wte.weight"], other["wte.weight"])


@BOTH
@pytest.mark.parametrize("field", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
def test_each_dropout_acts_in_training_and_not_in_evaluation(architecture: Architecture, field: str) -> None:
    model = random_model(architecture)
    dropping = GPT(dataclasses.replace(model.config, **{field: 0.5}))  # type: ignore[arg-type]
    dropping = dropping.double()
    dropping.load_state_dict(model.state_dict())
    tokens_BT = random_tokens(model, 2, 12)
    assert torch.equal(dropping.eval()(tokens_BT), model(tokens_BT))
    torch.manual_seed(0)
    assert not torch.allclose(dropping.train()(tokens_BT), model(tokens_BT))
