"""`gpt2lab doctor`: what this machine has, what fits on it, what is missing."""

import json
from dataclasses import asdict, dataclass

import tyro

_DESCRIPTION = """What this machine has, what fits on it, and what is missing.

Measures for a few seconds. A line marked `note` could be better, one marked `problem` will get in the way;
each says what to do."""


@dataclass(frozen=True)
class Arguments:
    """How much to look at, and how to say it."""

    quick: bool = False
    """do not compile or measure anything"""
    json: bool = False
    """print JSON, for programs"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab doctor`."""
    args = tyro.cli(Arguments, args=arguments, prog="gpt2lab doctor", description=_DESCRIPTION)
    from gpt2lab.app.doctor import diagnose

    findings = diagnose(quick=args.quick)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return 0
    for finding in findings:
        mark = "" if finding.verdict == "ok" else f"[{finding.verdict}] "
        print(f"{finding.name + ':':<28}{mark}{finding.value}")
        if finding.advice:
            print(f"{'':<28}{finding.advice}")
    return 0
