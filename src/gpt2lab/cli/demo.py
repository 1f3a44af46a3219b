"""`gpt2lab demo`: the whole system once, on the text inside this Python installation."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from gpt2lab.base.errors import UserError

_DESCRIPTION = """Watch a small GPT-2 learn English and speak it, in a few minutes and with no network.

Reads the documentation inside this Python installation, learns a vocabulary, trains, measures itself on text
it has never seen, and writes report.html. Stopped half-way, the same command goes on where it was."""


@dataclass(frozen=True)
class Arguments:
    """What can be chosen."""

    out: Path = Path("runs/demo")
    """the demo's folder"""
    minutes: float = 2.5
    """how long to train; the number of steps follows from this machine's speed"""
    steps: int = 0
    """train exactly this many steps instead, for a result that can be had again bit for bit"""
    compile: Literal["auto", "on", "off"] = "auto"
    """compile the training step; takes a C++ compiler"""
    seed: int = 1
    """decides the first weights and the order of the text"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab demo`; returns the exit code (130 after Ctrl-C)."""
    args = tyro.cli(Arguments, args=arguments, prog="gpt2lab demo", description=_DESCRIPTION)
    if args.steps < 0 or (not args.steps and args.minutes == 0):
        raise UserError("there is nothing to train", fix="Give --minutes or --steps more than 0")
    from gpt2lab.app.demo import demo_recipe, run_demo

    recipe = replace(demo_recipe(), seed=args.seed, compile=args.compile, minutes=args.minutes)
    if args.steps:
        recipe = replace(recipe, minutes=0.0, schedule=replace(recipe.schedule, steps=args.steps))
    try:
        report = run_demo(args.out, recipe)
    except KeyboardInterrupt:
        print(
            f"Stopped; what was done is kept. Go on with: gpt2lab demo --out {shlex.quote(str(args.out))}",
            file=sys.stderr,
        )
        return 130
    sample = report.samples[1]
    print(f"\n{sample.prompt}{sample.text}\n")
    print(
        f"held out: {report.bits_per_byte:.3f} bits per byte (gzip -9: {report.compression.gzip:.3f}, ",
        end="",
    )
    print(f"xz -9e: {report.compression.xz:.3f}, xz given the training text: ", end="")
    print(f"{report.compression.xz_after_training:.3f})")
    print(f"report:   {args.out / 'report.html'}")
    print(f'go on:    gpt2lab generate {args.out / "run"} "The module"')
    return 0
