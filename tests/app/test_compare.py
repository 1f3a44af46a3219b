"""Comparing runs whose answer is known."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gpt2lab.app.compare import Curve, compare
from gpt2lab.app.compare_plot import comparison_plot
from gpt2lab.base.errors import UserError
from gpt2lab.model.config import ModelConfig
from gpt2lab.training.recipe import DataConfig, OptimizerConfig, Recipe
from gpt2lab.training.run import RunFolder

SMALL = ModelConfig(vocab_size=300, context_length=16, n_layer=1, n_head=1, n_embd=8)
TOKENS = (0, 1000, 2000, 3000, 4000)


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """A run of which only what `compare` reads is there."""

    def run(name: str, losses: Any, *, facts: Any = None, bits: bool = True, **changes: Any) -> Path:
        recipe = Recipe(model=SMALL, batch_tokens=64)
        folder = RunFolder.create(tmp_path / name, dataclasses.replace(recipe, **changes))
        folder.save_facts({"data_fingerprint": "same", **(facts or {})})
        for tokens, loss in zip(TOKENS, losses, strict=False):
            row = {"kind": "validation", "step": tokens // 64, "tokens": tokens, "loss": loss}
            folder.add_metrics(row | {"bits_per_byte": loss / 2 if bits else None, "seconds": tokens / 100})
        return folder.path

    return run


ADAMW, MUON = OptimizerConfig(), OptimizerConfig(name="muon")


def test_the_better_recipe_with_the_p_value_of_its_seeds(make: Any) -> None:
    stats = pytest.importorskip("scipy.stats")
    muon = [[6.0, 5.0, 4.0, 3.0, 2.0 + seed / 100] for seed in range(3)]
    adamw = [[6.0, 5.5, 5.0, 4.5, 4.0 + seed / 10] for seed in range(3)]
    folders = [make(f"m{i}", losses, optimizer=MUON, seed=i) for i, losses in enumerate(muon)]
    folders += [make(f"a{i}", losses, optimizer=ADAMW, seed=i) for i, losses in enumerate(adamw)]
    found = compare([folders[3], folders[0], folders[5], folders[1], folders[4], folders[2]])
    assert [group.name for group in found.groups] == ["muon", "adamw"]
    assert [sorted(group.seeds) for group in found.groups] == [[0, 1, 2], [0, 1, 2]]
    (duel,) = found.duels
    expected = stats.ttest_ind([losses[-1] for losses in muon], [4.0, 4.1, 4.2], equal_var=False)
    assert duel.final is not None
    assert duel.final.p == pytest.approx(expected.pvalue)
    assert duel.final.difference == pytest.approx(2.01 - 4.1)
    # Muon is at 4.1, AdamW's final mean, after 1,900 of 4,000 tokens.
    assert duel.tokens_share == pytest.approx(1900 / 4000)
    assert duel.seconds_share == pytest.approx(19 / 40)
    assert found.unit == "loss"
    assert found.notes == ()


def test_one_seed_each_gives_no_p_value(make: Any) -> None:
    found = compare([make("a", [5, 4, 3], optimizer=ADAMW), make("m", [5, 4, 3.5], optimizer=MUON)])
    assert found.duels[0].final is None
    assert any("one seed gives no p-value" in note for note in found.notes)
    assert found.duels[0].lead_at_equal_tokens == pytest.approx(-0.5)


def test_runs_of_different_length_are_compared_where_both_have_been(make: Any) -> None:
    short = [make(f"s{seed}", [5, 4.0, 3.0 + seed], seed=seed, optimizer=MUON) for seed in range(2)]
    long = [make(f"l{seed}", [5, 4.5, 4, 3.5, 2.5], seed=seed, optimizer=ADAMW) for seed in range(2)]
    found = compare([*short, *long])
    (duel,) = found.duels
    assert duel.better.name == "adamw"  # by its end
    assert duel.equal_tokens == 2000
    assert duel.lead_at_equal_tokens == pytest.approx(4 - 3.5)  # and worse where the other ended
    assert any("different numbers of tokens" in note for note in found.notes)


def test_never_reached_is_said_so(make: Any) -> None:
    worse = make("w", [5, 4, 1.9, 2.5], optimizer=ADAMW)
    better = [
        make(f"b{seed}", [5, 3, 2.9, end], optimizer=MUON, seed=seed) for seed, end in ((1, 1.0), (2, 2.6))
    ]
    assert compare([worse, *better]).duels[0].tokens_share is None


def test_what_is_no_part_of_the_result_does_not_split_a_group(make: Any) -> None:
    folders = [make("a", [5, 4]), make("b", [5, 4.5], seed=2, log_every=3, writers=("tensorboard",))]
    (group,) = compare(folders).groups
    assert group.name == "all runs"
    assert len(group.runs) == 2


def test_names_say_the_optimizer_first_and_only_what_it_has(make: Any) -> None:
    slow = dataclasses.replace(MUON, muon_learning_rate=0.04, learning_rate=0.01)
    folders = [make("a", [5, 4]), make("m", [5, 4.5], optimizer=slow, batch_tokens=128)]
    folders.append(make("n", [5, 4.6], optimizer=dataclasses.replace(slow, muon_learning_rate=0.08)))
    folders.append(make("b", [5, 4.2], optimizer=dataclasses.replace(ADAMW, muon_learning_rate=0.3), seed=2))
    found = compare(folders)
    assert [(group.name, len(group.runs)) for group in found.groups] == [
        ("adamw, batch_tokens 64, learning_rate 0.0006", 2),
        ("muon, batch_tokens 128, learning_rate 0.01, muon_learning_rate 0.04", 1),
        ("muon, batch_tokens 64, learning_rate 0.01, muon_learning_rate 0.08", 1),
    ]


def test_a_single_validation_is_drawn(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda *args, **named: drawn.extend(plot(*args, **named)))
    comparison_plot(compare([make("a", [5, 4]), make("b", [5, 4.5, 4], seed=2)]), tmp_path / "picture.png")
    assert [line.get_marker() for line in drawn] == ["o"]


def test_other_vocabularies_are_compared_in_bits_per_byte(make: Any) -> None:
    larger = dataclasses.replace(SMALL, vocab_size=600)
    folders = [make("a", [5, 4]), make("b", [5, 4.4], model=larger, facts={"data_fingerprint": "other"})]
    found = compare(folders)
    assert found.unit == "bits_per_byte"
    assert found.groups[0].final == [2.0]
    assert any("not all runs were trained and validated on the same shards" in note for note in found.notes)
    with pytest.raises(UserError, match="different vocabularies, and not all recorded bits per byte"):
        compare([folders[0], make("c", [5, 4.4], bits=False, model=larger)])


def test_a_curve_between_its_points() -> None:
    curve = Curve((10.0, 20.0, 40.0), (4.0, 2.0, 3.0), (1.0, 2.0, 4.0))
    assert [curve.loss_at(tokens) for tokens in (5, 10, 15, 30, 99)] == [4.0, 4.0, 3.0, 2.5, 3.0]
    assert curve.reached(3.0) == (15.0, 1.5)  # the first time
    assert curve.reached(5.0) == (10.0, 1.0)
    assert curve.reached(1.0) is None


def test_mistakes(make: Any, tmp_path: Path) -> None:
    run = make("a", [5, 4])
    with pytest.raises(UserError, match="the same run is named twice"):
        compare([run, run])
    with pytest.raises(UserError, match="this is no run's folder"):
        compare([run, tmp_path])
    with pytest.raises(UserError, match="no validation yet"):
        compare([run, make("b", [5])])


def test_the_picture_is_a_png(make: Any, tmp_path: Path) -> None:
    folders = [make(f"a{seed}", [5, 4, 3 + seed], seed=seed) for seed in range(2)]
    folders.append(make("b", [5, 4.5], optimizer=MUON))
    comparison_plot(compare(folders), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_line(make: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpt2lab.cli.main import main

    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    folders = [make(f"m{seed}", [6, 5, 3 + seed / 10], optimizer=MUON, seed=seed) for seed in range(3)]
    folders += [make(f"a{seed}", [6, 5, 4 + seed / 10], optimizer=ADAMW, seed=seed) for seed in range(3)]
    assert main(["compare", *map(str, folders)]) == 0
    out = capsys.readouterr().out
    assert "muon  against  adamw" in out
    assert (
        "final loss: -1.0000 nats/token; p = 0.00026 (Welch's t-test), more than chance at the 5% level"
        in out
    )
    # 4.1 lies 45%, 47% and 50% of the way from 1,000 to 2,000 tokens.
    assert "in 74% of its tokens and 74% of its time" in out
    assert (tmp_path / "compare.png").exists()
    assert main(["compare", "--json", *map(str, folders)]) == 0
    assert json.loads(capsys.readouterr().out)["unit"] == "loss"


def test_a_run_that_is_not_at_its_end_is_named(make: Any) -> None:
    folders = [make("a", [5, 4, 3], facts={"steps": 31}), make("b", [5, 4], seed=2, facts={"steps": 31})]
    notes = compare(folders).notes
    assert [note for note in notes if "not at its end" in note] == [
        f"{folders[1]} is not at its end: its loss is that after step 15 of 31"
    ]


def test_runs_of_so_many_minutes_are_seeds_of_one_recipe(make: Any) -> None:
    folders = [make(f"m{i}", [5, 4], seed=i, minutes=3.0, facts={"steps": 10 + i}) for i in range(2)]
    assert len(compare(folders).groups) == 1


def test_the_same_tokens_elsewhere_are_the_same_data(make: Any) -> None:
    here, there = (DataConfig(path=f"/{name}/shards") for name in ("here", "there"))
    folders = [make("a", [5, 4], data=here), make("b", [5, 4], seed=2, data=there, validate_every=7)]
    assert len(compare(folders).groups) == 1
    folders[1] = make("c", [5, 4], seed=2, data=there, facts={"data_fingerprint": "other"})
    assert {group.name for group in compare(folders).groups} == {"path /here/shards", "path /there/shards"}
