"""`gpt2lab compare`: whether one recipe beats another, over seeds, with a p-value and a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from gpt2lab.base.errors import UserError

if TYPE_CHECKING:
    from gpt2lab.app.compare import Comparison, Duel
    from gpt2lab.evaluation.significance import Welch

_DESCRIPTION = """Tell whether one recipe beats another.

Runs that differ only in their seed are put together. Each group is compared with the best one: final held-out
loss, loss at equal tokens, tokens and time to the other's final loss. The p-value is that of Welch's t-test
over seeds, two-sided: the chance of so large a difference, either way, if there were none. It takes two seeds
a group at least, and three or more to say much.

example:
  gpt2lab compare runs/adamw-1 runs/adamw-2 runs/adamw-3 runs/muon-1 runs/muon-2 runs/muon-3"""


@dataclass(frozen=True)
class Arguments:
    """Which runs, and how to say it."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN RUN ...")]
    """folders of runs"""
    out: Path = Path("compare.png")
    """where the picture goes"""
    json: FlagCreatePairsOff[bool] = False
    """print the figures as JSON, for programs"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab compare`."""
    args = tyro.cli(Arguments, args=arguments, prog="gpt2lab compare", description=_DESCRIPTION)
    if len(args.runs) < 2:
        raise UserError("there is nothing to compare with", where="RUN", fix="Name two runs or more")
    from gpt2lab.app.compare import compare
    from gpt2lab.app.compare_plot import comparison_plot

    comparison = compare(args.runs)
    comparison_plot(comparison, args.out)
    if args.json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(comparison), indent=2, default=str))
        return 0
    _print(comparison)
    print(f"picture: {args.out}")
    return 0


def _print(comparison: "Comparison") -> None:
    from statistics import fmean

    from rich.console import Console
    from rich.table import Table

    from gpt2lab.app.compare import spread
    from gpt2lab.base.progress import format_duration

    unit = "nats/token" if comparison.unit == "loss" else "bits/byte"
    console = Console(highlight=False, markup=False)
    table = Table(title=f"held-out loss in {unit}, best first", title_justify="left", box=None)
    table.add_column("group", overflow="fold")
    for heading in ("seeds", "tokens", "final loss", "sd", "time a run"):
        table.add_column(heading, justify="right")
    for group in comparison.groups:
        table.add_row(
            group.name,
            str(len(group.runs)),
            f"{group.tokens / 1e6:,.1f}M",
            f"{fmean(group.final):.4f}",
            "-" if len(group.runs) == 1 else f"{spread(group.final):.4f}",
            format_duration(group.seconds),
        )
    console.print(table)
    for duel in comparison.duels:
        console.print("", *_words(duel, unit), sep="\n")
    for note in comparison.notes:
        console.print(f"\nnote: {note}.", style="dim")


def _words(duel: "Duel", unit: str) -> list[str]:
    """What a duel says, in some lines."""
    from statistics import fmean

    difference = fmean(duel.better.final) - fmean(duel.worse.final)
    lines = [
        f"{duel.better.name}  against  {duel.worse.name}",
        f"  final loss: {difference:+.4f} {unit}; {_p(duel.final)}",
        f"  at {duel.equal_tokens / 1e6:,.1f}M tokens: {duel.lead_at_equal_tokens:+.4f} {unit}; "
        f"{_p(duel.at_equal_tokens)}",
    ]
    if duel.tokens_share is None:
        return [*lines, "  not all of its runs reached the other's final loss"]
    time = f" and {duel.seconds_share:.0%} of its time" if duel.seconds_share is not None else ""
    return [*lines, f"  reached the other's final loss in {duel.tokens_share:.0%} of its tokens{time}"]


def _p(test: "Welch | None") -> str:
    if test is None:
        return "no p-value: a group has one seed, or no seed differs"
    verdict = "more than chance at the 5% level" if test.p < 0.05 else "could be chance at the 5% level"
    return f"p = {test.p:.2g} (Welch's t-test), {verdict}"
