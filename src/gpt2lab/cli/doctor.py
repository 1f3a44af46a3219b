"""`gpt2lab doctor`: what this machine has, what fits on it, what is missing."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro
from tyro.conf import FlagCreatePairsOff

if TYPE_CHECKING:
    from gpt2lab.app.doctor import Finding

_DESCRIPTION = """What this machine has, what fits on it, and what is missing.

Tries things out for some seconds. A line marked `note` could be better, one marked `problem` will get in the
way; each says what to do."""

_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Arguments:
    """How much to look at, and how to say it."""

    quick: FlagCreatePairsOff[bool] = False
    """do not compile or measure anything"""
    json: FlagCreatePairsOff[bool] = False
    """print a JSON list of the findings, for programs"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab doctor`; finding a problem is no failure, so the exit code is 0."""
    args = tyro.cli(Arguments, args=arguments, prog="gpt2lab doctor", description=_DESCRIPTION)
    import json
    from dataclasses import asdict

    from gpt2lab.app.doctor import diagnose

    findings = diagnose(quick=args.quick)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    return 0


def _print(findings: "list[Finding]") -> None:
    """A table a group: verdict, name, what was found and below it what to do."""
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    width = max(len(finding.name) for finding in findings)
    for group, members in groupby(findings, key=lambda finding: finding.group):
        table = Table.grid(padding=(0, 2))
        table.add_column(width=len("problem"))
        table.add_column(width=width)
        table.add_column(ratio=1, overflow="fold")
        for finding in members:
            what = Text(finding.value)
            if finding.advice:
                what.append(f"\n{finding.advice}.", style="dim")
            table.add_row(Text(finding.verdict, _STYLES[finding.verdict]), Text(finding.name), what)
        console.print(Text(f"\n{group}", style="bold"))
        console.print(table)
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in ("problem", "note")}
    console.print(f"\nproblems: {counts['problem']}, notes: {counts['note']}")
