"""TensorBoard and Weights & Biases get the rows that metrics.jsonl gets."""

import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2lab.base.errors import UserError


def events(folder: Path) -> list[Any]:
    """Every event in a folder of event files: records of a length, its sum, an event, and its sum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def test_tensorboard_files_hold_the_metrics(make_recipe: Any, train_in: Any, tmp_path: Any) -> None:
    pytest.importorskip("tensorboardX")
    run = train_in(tmp_path / "run", make_recipe(writers=("tensorboard",)))
    scalars = {
        (value.tag, event.step): value.simple_value
        for event in events(run.path / "tensorboard")
        for value in event.summary.value
    }
    rows = [row for row in run.metrics() if row["kind"] in ("train", "validation")]
    assert len(rows) == 9
    for row in rows:
        for name in {"loss", "lr", "grad_norm", "tokens_per_s", "mfu", "update_ratio"} & set(row):
            assert scalars[f"{row['kind']}/{name}", row["step"]] == pytest.approx(row[name], rel=1e-6)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in that remembers what it was told."""
    told: dict[str, Any] = {"logged": [], "finished": 0}

    class Run:
        def log(self, values: Any, step: int) -> None:
            told["logged"].append((step, values))

        def finish(self) -> None:
            told["finished"] += 1

    def init(**options: Any) -> Run:
        told["options"] = options
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    return told


def test_wandb_is_told_the_same_and_when_it_ends(
    make_recipe: Any, train_in: Any, tmp_path: Any, wandb: Any
) -> None:
    run = train_in(tmp_path / "run", make_recipe(writers=("wandb",)))
    assert wandb["options"]["resume"] == "allow"
    assert wandb["options"]["config"]["schedule"]["steps"] == 6
    first_name = wandb["options"]["id"]
    rows = [row for row in run.metrics() if row["kind"] in ("train", "validation")]
    assert [step for step, _ in wandb["logged"]] == [row["step"] for row in rows]
    for row, (_, values) in zip(rows, wandb["logged"], strict=True):
        assert values[f"{row['kind']}/loss"] == row["loss"]
    assert wandb["finished"] == 1
    train_in(run.path)  # a resumption is the same run there
    assert wandb["options"]["id"] == first_name


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_one_clear_line_where_it_is_not_installed(
    make_recipe: Any, train_in: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{module}: .*pip install 'gpt2lab\[{name}\]'"):
        train_in(tmp_path / "run", make_recipe(writers=(name,)))


def test_without_writers_nothing_of_theirs_is_imported(
    make_recipe: Any, train_in: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tensorboardX", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    assert not (train_in(tmp_path / "run", make_recipe()).path / "tensorboard").exists()
