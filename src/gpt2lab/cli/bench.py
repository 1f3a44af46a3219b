"""`gpt2lab bench`: this machine against its own limits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from gpt2lab.base.errors import UserError

if TYPE_CHECKING:
    from gpt2lab.app.bench_generate import Speed
    from gpt2lab.model.gpt import GPT

_DESCRIPTION = """How fast this machine writes a model's tokens, beside how fast it can read
the weights, which is the limit for one text. Some seconds a precision.

examples:
  gpt2lab bench generate                      GPT-2 (124M) with random weights: nothing is downloaded
  gpt2lab bench generate gpt2-xl --precision int8 int4
  gpt2lab bench generate runs/mine"""

Precision = Literal["float32", "bf16", "int8", "int4", "int4-fast"]


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    model: Annotated[Positional[str | None], arg(metavar="[MODEL]")] = None
    """a published name, a Hugging Face id, a model directory or a run; a random gpt2 where not given"""
    precision: tuple[Precision, ...] = ()
    """which precisions; all that the device has where not given"""
    new_tokens: int = 128
    """tokens to write after a prompt of 32"""
    batch: int = 16
    """texts written together for the last column"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute; auto takes a GPU if there is one"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab bench generate`."""
    if arguments[:1] != ["generate"]:
        if not arguments or {"-h", "--help"} & set(arguments):
            print(f"usage: gpt2lab bench generate [MODEL] [options]\n\n{_DESCRIPTION}")
            return 0 if arguments else 2
        raise UserError(f"there is no benchmark {arguments[0]!r}", fix="There is: gpt2lab bench generate")
    args = tyro.cli(Arguments, args=arguments[1:], prog="gpt2lab bench generate", description=_DESCRIPTION)
    for name in ("new_tokens", "batch"):
        least = 2 if name == "new_tokens" else 1
        if getattr(args, name) < least:
            raise UserError(f"{getattr(args, name)} is not possible", where=name, fix=f"Use at least {least}")
    _bench(args)
    return 0


def _bench(args: Arguments) -> None:
    from rich.console import Console

    from gpt2lab.app.bench_generate import PROMPT_TOKENS, measure
    from gpt2lab.base.device import device_label, pick_device

    device = pick_device(args.device)
    model = _model(args.model)
    if PROMPT_TOKENS + args.new_tokens > model.config.context_length:
        raise UserError(
            f"a prompt of {PROMPT_TOKENS} tokens and {args.new_tokens} new ones do not fit the model's "
            f"context of {model.config.context_length}",
            where="new_tokens",
            fix=f"Use at most {model.config.context_length - PROMPT_TOKENS}",
        )
    on_cpu: tuple[Precision, ...] = ("float32", "bf16", "int8", "int4", "int4-fast")
    precisions = args.precision or (on_cpu if device.type == "cpu" else ("float32", "bf16"))
    console = Console()
    console.print(f"{args.model or 'gpt2, random weights'} on {device_label(device)}")
    console.print(_row("precision", "weights", "first token", "tokens/s", "GB/s", "of memory", "batch"))
    for speed in measure(model, device, precisions, args.new_tokens, args.batch):
        console.print(_line(speed))
    console.print(f"(batch: tokens/s of {args.batch} texts together)")


def _model(name: str | None) -> "GPT":
    from gpt2lab import load
    from gpt2lab.app.bench_generate import random_gpt
    from gpt2lab.model.config import ModelConfig

    return random_gpt(ModelConfig.preset("gpt2")) if name is None else load(name)[0]


def _line(speed: "Speed") -> str:
    limit = speed.read_bytes_per_second
    return (
        _row(
            speed.precision,
            f"{speed.token_bytes / 1e6:,.0f} MB",
            f"{speed.first_token_seconds * 1e3:,.1f} ms",
            f"{speed.tokens_per_second:,.0f}",
            f"{speed.bytes_per_second / 1e9:.1f}",
            "" if limit is None else f"{speed.bytes_per_second / limit:.0%} of {limit / 1e9:.0f}",
            f"{speed.batched_tokens_per_second:,.0f}",
        )
        + f"  {speed.engine}"
    )


def _row(*cells: str) -> str:
    widths = (9, 9, 11, 9, 6, 10, 7)
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
