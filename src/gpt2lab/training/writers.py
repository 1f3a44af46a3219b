"""The same metrics for TensorBoard or Weights & Biases: both optional, neither needed by anything here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from gpt2lab.base.extras import import_extra

WriterName = Literal["tensorboard", "wandb"]
Row = dict[str, Any]
Listener = Callable[[Row], None]

_NOT_CURVES = ("kind", "step")


def _curves(row: Row) -> dict[str, float]:
    """The numbers of a row as ``kind/name``."""
    return {
        f"{row['kind']}/{name}": value
        for name, value in row.items()
        if name not in _NOT_CURVES and isinstance(value, int | float) and not isinstance(value, bool)
    }


class TensorBoardWriter:
    """Event files in the run's folder ``tensorboard/``: `tensorboard --logdir runs` shows all runs.

    Args:
        run: the run's folder.
        step: where the run goes on; what was written after it is hidden, for it will come again.

    Raises:
        UserError: tensorboardX is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        library = import_extra("tensorboardX", "tensorboard")
        self._writer = library.SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def __call__(self, row: Row) -> None:
        """Write a row."""
        for name, value in _curves(row).items():
            self._writer.add_scalar(name, value, row["step"])
        if row["kind"] == "sample":
            self._writer.add_text("sample", row["prompt"] + row["text"], row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandbWriter:
    """A run of Weights & Biases, in the project ``gpt2lab``; ``WANDB_MODE=offline`` needs no network.

    Args:
        run: the run's folder; its full path is the run's name there, so that a resumption goes on in it.
        recipe: shown beside the curves.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, run: Path, recipe: dict[str, Any]) -> None:
        library = import_extra("wandb", "wandb")
        name = "-".join(run.absolute().parts[1:]).replace("/", "-")[-100:]
        self._run = library.init(
            project="gpt2lab", id=name, name=run.name, dir=str(run), config=recipe, resume="allow"
        )

    def __call__(self, row: Row) -> None:
        """Write a row."""
        if curves := _curves(row):
            # Of a step that a resumption takes again wandb keeps the first values.
            self._run.log(curves, step=row["step"])

    def close(self) -> None:
        """Tell wandb that the run has ended."""
        self._run.finish()


def writers_of(
    names: Sequence[WriterName], run: Path, recipe: dict[str, Any], step: int
) -> list[TensorBoardWriter | WandbWriter]:
    """The writers a recipe asks for, opened.

    Raises:
        UserError: one needs a package that is not installed.
    """
    return [
        TensorBoardWriter(run, step) if name == "tensorboard" else WandbWriter(run, recipe) for name in names
    ]
