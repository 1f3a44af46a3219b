"""Start a run from a recipe, or go on with one from its folder: what `gpt2lab train` and the demo call."""

import dataclasses
from contextlib import ExitStack
from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.base.toml_table import as_table, flattened
from gpt2lab.training.dataset import open_data
from gpt2lab.training.live import say
from gpt2lab.training.recipe import Recipe
from gpt2lab.training.run import OnlookersRunFolder, RunFolder
from gpt2lab.training.trainer import Sampler, TrainingResult, train
from gpt2lab.training.world import World, joined, launch_id, restarted

_LAUNCH = ".launch"  # in the run's folder: by which start of torchrun's it was begun
_DYING_S = 60.0  # how long a process that torchrun has ended may still hold its run


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
    with joined() as world:
        new = not world.on_first(lambda: RunFolder.is_one(out) and (resume or _begun_by_this_launch(out)))
        if new:
            world.on_first(lambda: _begin(recipe, out))
        else:
            world.on_first(lambda: _say_what_stays(RunFolder(out).recipe(), _wherever_started(recipe)))
        return _train(out, world, sampler, new=new)


def _begin(recipe: Recipe, out: Path) -> None:
    if not recipe.data.path:
        raise UserError(
            "this recipe names no data",
            where="data.path",
            fix="Give a folder of text or of token shards, or a Hub dataset's id: --data WHAT",
        )
    RunFolder.create(out, _wherever_started(recipe))
    if launch_id():
        (out / _LAUNCH).write_text(launch_id(), encoding="utf-8")


def _begun_by_this_launch(out: Path) -> bool:
    """Whether torchrun, which tries again whatever the failure was, has begun the run in `out` itself."""
    mark = out / _LAUNCH
    return restarted() and mark.exists() and mark.read_text(encoding="utf-8") == launch_id()


def _say_what_stays(begun_with: Recipe, asked_for: Recipe) -> None:
    """A started run keeps its recipe; that another was asked for must not go unnoticed."""
    begun, asked = (flattened(as_table(recipe)) for recipe in (begun_with, asked_for))
    for name in sorted(begun.keys() | asked.keys()):
        if name != "summary" and begun.get(name) != asked.get(name):
            say(f"a started run keeps its recipe: {name} stays {begun.get(name)}, not {asked.get(name)}")


def _wherever_started(recipe: Recipe) -> Recipe:
    """With the full paths of what lies on this disk: the run can then be resumed from any folder."""

    def full(name: str) -> str:
        return str(Path(name).absolute()) if name and Path(name).exists() else name

    data = dataclasses.replace(
        recipe.data, path=full(recipe.data.path), tokenizer=full(recipe.data.tokenizer)
    )
    curve = full(recipe.expected_curve)
    return dataclasses.replace(recipe, data=data, init_from=full(recipe.init_from), expected_curve=curve)


def go_on(folder: Path, *, sampler: Sampler | None = None) -> TrainingResult:
    """Go on with the run in `folder` from its newest checkpoint (from the beginning if it has none)."""
    with joined() as world:
        return _train(folder, world, sampler)


def _train(folder: Path, world: World, sampler: Sampler | None, *, new: bool = False) -> TrainingResult:
    run = RunFolder(folder) if world.is_first else OnlookersRunFolder(folder)
    patience_s = _DYING_S if world.size > 1 else 0.0
    with ExitStack() as held:
        world.on_first(lambda: held.enter_context(run.locked(patience_s)))
        try:
            data, tokenizer = world.first_then_all(lambda: open_data(run, run.recipe()))
            return train(run, data, tokenizer, sampler, world)
        except UserError:
            if new and world.is_first and run.facts() is None:  # not one step taken: free it for a new start
                run.discard()
            raise
