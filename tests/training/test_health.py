"""Whether a run is healthy: update-to-weight ratio, MFU, and the loss against an expected curve."""

import math
import re
from typing import Any

import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training.expected_curve import ExpectedCurve, closing_words, load_expected_curve
from gpt2lab.training.flops import flops_per_token
from gpt2lab.training.health import UpdateWatch
from gpt2lab.training.parallel import Placement
from gpt2lab.training.recipe import load_recipe

CURVE = """
source = "a test"
band = "made up"
tokens = [100, 200, 400]
loss = [6.0, 5.0, 4.0]
low = [0.0, 0.0, 0.0]
high = [9.0, 9.0, 9.0]
"""


def test_the_ratio_of_a_known_update() -> None:
    model = GPT(ModelConfig(vocab_size=300, context_length=16, n_layer=1, n_head=1, n_embd=32))
    model.initialise(torch.Generator().manual_seed(1))
    watch = UpdateWatch(Placement(model))
    watch.before()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.01 if parameter.dim() == 2 else 7.0  # biases and gains do not count
    assert watch.ratio() == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("column", [0, 5, 767])
def test_no_channel_is_overlooked(column: int) -> None:
    """The sample must not see the same few columns in every row."""
    model = GPT(ModelConfig(vocab_size=300, context_length=16, n_layer=1, n_head=12, n_embd=768))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    watch = UpdateWatch(Placement(model))
    watch.before()
    weight = model.h[0].mlp.c_fc.weight
    with torch.no_grad():
        weight[..., column] += 1.0
    whole = math.sqrt(weight.size(0) / sum(p.numel() for p in model.parameters() if p.dim() == 2))
    assert 0.2 * whole < watch.ratio() < 5 * whole


def test_every_logged_row_has_the_figures(make_recipe: Any, train_in: Any, tmp_path: Any) -> None:
    run = train_in(tmp_path / "run", make_recipe())
    facts = run.facts()
    flops = flops_per_token(make_recipe().model).total
    for row in (row for row in run.metrics() if row["kind"] == "train"):
        assert 1e-5 < row["update_ratio"] < 1
        assert row["mfu"] == pytest.approx(row["tokens_per_s"] * flops / facts["peak_flops"])
    assert facts["peak_source"] == "the fastest matrix product measured here"


def test_flops_of_gpt2_by_hand() -> None:
    """124M: 84.9M weights in the blocks, 38.6M in the head, 12 x 12 x 1024 x 768 for attention."""
    found = flops_per_token(ModelConfig())
    assert found.blocks == 6 * 84_934_656
    assert found.head == 6 * 50_257 * 768
    assert found.attention == 12 * 12 * 1024 * 768
    assert found.total == 854_438_400


def test_flops_against_pytorchs_own_count() -> None:
    """PyTorch counts the products of one forward and backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    config = ModelConfig(vocab_size=320, context_length=32, n_layer=2, n_head=2, n_embd=64)
    model, tokens_BT = GPT(config), torch.zeros(3, 32, dtype=torch.long)
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(tokens_BT).sum().backward()
    assert counter.get_total_flops() == pytest.approx(
        flops_per_token(config).total * tokens_BT.numel(), rel=0.03
    )


def test_a_curve_goes_straight_over_the_logarithm_of_tokens() -> None:
    curve = ExpectedCurve("a", "b", (100, 200, 400), (6, 5, 4), (5.9, 4.9, 3.9), (6.1, 5.1, 4.1))
    middle = curve.at(math.sqrt(200 * 400))
    assert middle == pytest.approx((4.4, 4.5, 4.6))
    assert curve.at(100) == pytest.approx((5.9, 6.0, 6.1))
    assert curve.at(400) == pytest.approx((3.9, 4.0, 4.1))
    assert curve.at(99) is None
    assert curve.at(401) is None
    assert [curve.verdict(200, loss) for loss in (4.89, 5.05, 5.11)] == [
        "below the band",
        "inside the band",
        "above the band",
    ]
    assert curve.verdict(50, 5) is None
    assert curve.verdict(200, math.nan) == "above the band"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("tokens = [100, 200]", "lists of one length"),
        ("tokens = [100, 400, 200]", "do not rise"),
        ("tokens = [0, 200, 400]", "do not rise from above 0"),
        ("high = [6.0, 4.9, 4.0]", "lies outside its band"),
        ("loss = ['six', 5.0, 4.0]", "of the wrong kind"),
    ],
)
def test_what_is_no_curve_is_refused(tmp_path: Any, line: str, what: str) -> None:
    name = line.split(" =")[0]
    (tmp_path / "bad.toml").write_text(re.sub(rf"^{name} = .*$", line, CURVE, flags=re.MULTILINE))
    with pytest.raises(UserError, match=what):
        load_expected_curve(str(tmp_path / "bad.toml"))


def test_a_run_says_whether_it_keeps_to_its_curve(
    make_recipe: Any, train_in: Any, tmp_path: Any, capsys: Any
) -> None:
    (tmp_path / "curve.toml").write_text(CURVE)
    run = train_in(tmp_path / "run", make_recipe(expected_curve=str(tmp_path / "curve.toml")))
    rows = {row["step"]: row for row in run.metrics() if row["kind"] == "validation"}
    assert "verdict" not in rows[0]  # no tokens yet: the curve says nothing
    assert rows[3]["verdict"] == "inside the band"  # 192 tokens
    assert rows[6]["expected"] == pytest.approx(5 - math.log(384 / 200) / math.log(2))
    err = capsys.readouterr().err
    assert ", inside the band 0.000 to 9.000" in err
    assert "2 of 2 validations lie inside the band of a test; the last one is inside the band" in err
    assert closing_words([], load_expected_curve(str(tmp_path / "curve.toml"))) == ""


def test_a_curve_that_is_not_there_stops_the_run_before_it_starts(
    make_recipe: Any, train_in: Any, tmp_path: Any
) -> None:
    with pytest.raises(UserError, match="there is no expected curve or TOML file 'gpt2-125m'"):
        train_in(tmp_path / "run", make_recipe(expected_curve="gpt2-125m"))


def test_the_published_run_lies_inside_its_own_band(test_data: Any) -> None:
    """Fourteen of its points were kept: the others must be where the band is."""
    curve = load_expected_curve(load_recipe("gpt2-124m").expected_curve)
    log = (test_data / "scaling" / "gpt2_training_logs" / "llmc_gpt2_124m_fineweb10b.log").read_text()
    found = [
        curve.verdict(int(step) * 524_288, float(loss))
        for step, loss in re.findall(r"^s:(\d+) tel:(\S+)$", log, flags=re.MULTILINE)
    ]
    assert len(found) == 80
    assert (
        found.count("inside the band") == 78
    )  # not those at 0 and at 250 steps, where the curve says nothing
    assert set(found) == {"inside the band", None}
