"""`gpt2lab train`: a recipe's name, a TOML file, or the folder of a run to go on with."""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from gpt2lab.training.recipe import Recipe
    from gpt2lab.training.trainer import TrainingResult

_DESCRIPTION = """Train a model, or go on with a run.

WHAT is a shipped recipe's name, a TOML file, or a run's folder (then the run goes on, and its recipe stands).
Every field of the recipe can be given as an option; `gpt2lab train RECIPE --help` lists them with the
recipe's own values.

examples:
  gpt2lab train laptop-10m --data texts/                 train on a folder of text
  gpt2lab train gpt2-124m                                on published token shards, fetched as training goes
  gpt2lab train runs/laptop-10m                          go on after Ctrl-C or a crash
  gpt2lab train laptop-10m --data t/ --minutes 30        stop after about half an hour
  gpt2lab train gpt2-124m --dry-run                      show what would be done, and what it takes

--data is short for --data.path."""


@dataclass(frozen=True)
class Options:
    """What to do with the recipe."""

    out: Path | None = None
    """the run's folder; runs/RECIPE where not given"""
    resume: bool = False
    """go on if the run's folder holds a run already"""
    dry_run: bool = False
    """print the recipe in full, its memory, time and cost here and elsewhere; start nothing"""
    hardware: tuple[str, ...] = ()
    """for --dry-run: on which accelerators, as a100-80gb h100; all known ones where not given"""
    devices: int = 1
    """for --dry-run: on how many of them"""
    price_per_hour: float | None = None
    """for --dry-run: what one of them costs an hour"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab train`."""
    from gpt2lab.training.run import RunFolder

    what, rest = _split(arguments)
    help_asked = bool({"-h", "--help"} & set(rest))
    is_run = what is not None and RunFolder.is_one(Path(what))
    if what is None or (is_run and help_asked):
        from gpt2lab.training.recipe import recipe_names

        print(
            f"usage: gpt2lab train WHAT [options]\n\n{_DESCRIPTION}\n\nrecipes: {', '.join(recipe_names())}"
        )
        return 0 if help_asked else 2
    if is_run:
        return _go_on(Path(what), rest)
    return _start(what, rest)


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    """WHAT comes first; the rest are options."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def _go_on(folder: Path, rest: list[str]) -> int:
    from gpt2lab.app.sampler import write_sample
    from gpt2lab.base.errors import UserError
    from gpt2lab.training.launch import go_on

    if set(rest) - {"--resume"}:
        raise UserError(
            f"a started run keeps its recipe; {rest[0]} cannot change it",
            where=folder,
            fix="Leave the options out, or start a new run with --init-from and --out",
        )
    return _report(folder, go_on(folder, sampler=write_sample))


def _start(what: str, rest: list[str]) -> int:
    from gpt2lab.app.sampler import write_sample
    from gpt2lab.training.launch import start
    from gpt2lab.training.recipe import Recipe, load_recipe

    @dataclass(frozen=True)
    class Command:
        options: Annotated[Options, tyro.conf.arg(name="")]
        recipe: Annotated[Recipe, tyro.conf.arg(name="")]

    shipped = load_recipe(what)
    command = tyro.cli(
        Command,
        args=[_in_full(word) for word in rest],
        prog=f"gpt2lab train {what}",
        description=f"{shipped.summary.strip()}\n\nEvery field of the recipe is an option.",
        # A summary is a page of text: it stands above the options, not among their defaults.
        default=Command(Options(), replace(shipped, summary="")),
    )
    recipe = replace(command.recipe, summary=command.recipe.summary or shipped.summary)
    if not any(word.startswith("--expected-curve") for word in rest):
        recipe = _without_anothers_curve(recipe, shipped)
    if command.options.dry_run:
        from gpt2lab.training.preview import preview

        options = command.options
        print(preview(recipe, options.hardware, options.devices, options.price_per_hour))
        return 0
    out = command.options.out or Path("runs") / Path(what).stem
    result = start(recipe, out, resume=command.options.resume, sampler=write_sample)
    return _report(out, result)


def _without_anothers_curve(recipe: "Recipe", shipped: "Recipe") -> "Recipe":
    """A curve is that of a recipe's own data and model: with others it says nothing."""
    from gpt2lab.training.live import say

    names = [
        name for name in ("data", "model", "init_from") if getattr(recipe, name) != getattr(shipped, name)
    ]
    if not recipe.expected_curve or not names:
        return recipe
    say(
        f"{' and '.join(names)} being another, the run is not compared with the expected curve "
        f"{recipe.expected_curve} (--expected-curve {recipe.expected_curve} does it all the same)"
    )
    return replace(recipe, expected_curve="")


def _in_full(word: str) -> str:
    """`--data` as tyro knows it."""
    return re.sub(r"^--data(?=$|=)", "--data.path", word)


def _report(folder: Path, result: "TrainingResult") -> int:
    from gpt2lab.base.errors import speaks

    if not speaks():
        return 0
    from gpt2lab.app.plots import loss_plot
    from gpt2lab.training.run import RunFolder

    loss_plot(RunFolder(folder).metrics(), folder / "loss.png")
    if result.finished:
        print(f'Done. Let it write: gpt2lab generate {folder} "Once upon a time"')
        return 0
    print(
        f"Stopped and saved after step {result.step:,}. Go on with: gpt2lab train {folder}", file=sys.stderr
    )
    return 130
