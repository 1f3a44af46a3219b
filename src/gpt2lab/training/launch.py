"""Start a run from a recipe, or go on with one from its folder: what `gpt2lab train` and the demo call."""

import dataclasses
from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.training.dataset import open_data
from gpt2lab.training.recipe import Recipe
from gpt2lab.training.run import RunFolder
from gpt2lab.training.trainer import Sampler, TrainingResult, train


def start(
    recipe: Recipe, out: Path, *, resume: bool = False, sampler: Sampler | None = None
) -> TrainingResult:
    """Train `recipe` in a new run folder.

    Args:
        recipe: what to do.
        out: the run's folder.
        resume: go on with the run in `out` if there is one already.
        sampler: writes the samples on the way.

    Raises:
        UserError: `out` is taken; the data or the model cannot be had; see also `train`.
    """
    if resume and RunFolder.is_one(out):
        return go_on(out, sampler=sampler)
    if not recipe.data.path:
        raise UserError(
            "this recipe names no data", where="data.path", fix="Give a folder of text or shards: --data.path"
        )
    run = RunFolder.create(out, _wherever_started(recipe))
    try:
        return go_on(out, sampler=sampler)
    except UserError:
        if run.facts() is None:  # not one step was taken: leave the folder free for the mended command
            run.discard()
        raise


def _wherever_started(recipe: Recipe) -> Recipe:
    """With the full paths of what lies on this disk: the run can then be resumed from any folder."""

    def full(name: str) -> str:
        return str(Path(name).absolute()) if name and Path(name).exists() else name

    data = dataclasses.replace(
        recipe.data, path=full(recipe.data.path), tokenizer=full(recipe.data.tokenizer)
    )
    return dataclasses.replace(recipe, data=data, init_from=full(recipe.init_from))


def go_on(folder: Path, *, sampler: Sampler | None = None) -> TrainingResult:
    """Go on with the run in `folder` from its newest checkpoint (from the beginning if it has none)."""
    run = RunFolder(folder)
    with run.locked():
        data, tokenizer = open_data(run, run.recipe().data)
        return train(run, data, tokenizer, sampler)
