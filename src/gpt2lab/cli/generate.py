"""`gpt2lab generate`: a model continues a text."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import decode_utf8, read_text
from gpt2lab.generation.options import SamplingOptions, fresh_seed

if TYPE_CHECKING:
    from gpt2lab.generation.engine import Piece
    from gpt2lab.model.gpt import GPT
    from gpt2lab.tokenizer import Tokenizer

# What a model may write but a terminal must not obey: control characters other than line feed and tab.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


_DESCRIPTION = """Continue a text with a model.

The text is that of
  the command line: gpt2lab generate MODEL PROMPT, or
  --prompt-file, or
  standard input, if something is piped in, or else
  yours, one line after another (Ctrl-C stops a text, Ctrl-D leaves).

It is printed first, then its continuation as it grows.
The number of tokens, the speed and the seed go to standard error.

examples:
  gpt2lab generate gpt2 "In a shocking finding," --top-k 40
  gpt2lab generate runs/mine "The tokenizer" --temperature 0.8 --samples 3
  gpt2lab generate gpt2 "Q: Who wrote Hamlet? A:" --temperature 0 --stop $'\\n'
  head -c 500 story.txt | gpt2lab generate gpt2 --no-echo > rest.txt
  gpt2lab generate gpt2"""


@dataclass(frozen=True)
class Arguments:
    """What `gpt2lab generate` may be told."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """a published name (gpt2, gpt2-medium, ...), a Hugging Face id, a model directory or a run directory"""
    prompt: Annotated[Positional[tuple[str, ...]], arg(metavar="[PROMPT ...]")] = ()
    """the text to continue; several words are joined by spaces, "" starts a fresh document"""
    prompt_file: Annotated[Path | None, arg(metavar="PATH")] = None
    """read the text from this file (without its last line break, as from standard input)"""
    interactive: FlagCreatePairsOff[bool] = False
    """ask for texts, a line each, even when standard input is not a terminal"""
    sampling: OmitArgPrefixes[UseAppendAction[SamplingOptions]] = field(default_factory=SamplingOptions)
    samples: int = 1
    """how many continuations; the one numbered i is had again alone with --seed SEED+i-1"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute; auto takes a GPU if there is one"""
    no_stream: FlagCreatePairsOff[bool] = False
    """show text only when it is complete, not as it grows"""
    no_echo: FlagCreatePairsOff[bool] = False
    """print the continuation alone, without the text that was given"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab generate`; returns the exit code (130 after Ctrl-C, 141 if the output's reader left)."""
    args = tyro.cli(Arguments, args=arguments, prog="gpt2lab generate", description=_DESCRIPTION)
    try:
        _generate(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this Python complains about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _generate(args: Arguments) -> None:
    if args.samples < 1:
        raise UserError(f"{args.samples} is not possible", where="samples", fix="Ask for at least 1")
    prompt = _given_prompt(args)

    from gpt2lab import load
    from gpt2lab.base.device import pick_device

    device = pick_device(args.device)
    model, tokenizer = load(args.model)
    if tokenizer is None:
        raise UserError(
            "there is no tokenizer with this model, so it can neither read nor write text",
            where=args.model,
            fix="Put the tokenizer.json it was trained with into its directory",
        )
    model.to(device)
    if prompt is not None:
        _continue(model, tokenizer, prompt, args)
        return
    for line in _lines():
        try:
            _continue(model, tokenizer, line, args)
        except UserError as error:  # too long, for example; the next line may not be
            print(error, file=sys.stderr)
        except KeyboardInterrupt:  # leaves this text, not the conversation
            continue


def _given_prompt(args: Arguments) -> str | None:
    """The text to continue, or None to ask for it."""
    if bool(args.prompt) + (args.prompt_file is not None) + args.interactive > 1:
        raise UserError("there is more than one prompt", fix="Give PROMPT, --prompt-file or --interactive")
    if args.interactive:
        return None
    if args.prompt:
        return decode_utf8(os.fsencode(" ".join(args.prompt)), "prompt")
    if args.prompt_file is not None:
        return read_text(args.prompt_file).removesuffix("\n")
    if sys.stdin.isatty():
        return None
    return decode_utf8(sys.stdin.buffer.read(), "standard input").removesuffix("\n")


def _lines() -> Iterator[str]:
    """Lines typed by the user, or piped in, until they end."""
    with suppress(ImportError):  # some builds of Python are without it
        import readline  # noqa: F401  (gives `input` line editing and a history)

    if sys.stdin.isatty():
        print("Type a text to continue. Ctrl-C stops one, Ctrl-D leaves.", file=sys.stderr)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() and sys.stdout.isatty() else "")
        except EOFError:
            return
        if line:
            yield line


def _continue(model: "GPT", tokenizer: "Tokenizer", prompt: str, args: Arguments) -> None:
    """Print the prompt's continuations to standard output, and a line about them to standard error."""
    from gpt2lab.generation.engine import stream

    seed = fresh_seed() if args.sampling.seed is None else args.sampling.seed
    pieces = stream(model, tokenizer, [prompt] * args.samples, replace(args.sampling, seed=seed))
    n_tokens, n_restarts = 0, 0
    started = time.monotonic()

    def counted() -> Iterator["Piece"]:
        nonlocal n_tokens, n_restarts
        for piece in pieces:
            n_tokens += 1
            n_restarts += piece.completion.n_restarts if piece.completion else 0
            yield piece

    try:
        _print_samples(iter(list(counted())) if args.no_stream else counted(), prompt, args)
    finally:
        seconds = time.monotonic() - started
        print(
            f"[{n_tokens} tokens in {seconds:.1f} s, {n_tokens / seconds:.1f} tokens/s; seed {seed}]",
            file=sys.stderr,
        )
        if n_restarts:
            limit = model.config.context_length
            print(f"[the context of {limit:,} tokens filled up; its last half was kept]", file=sys.stderr)


def _print_samples(pieces: Iterator["Piece"], prompt: str, args: Arguments) -> None:
    """Print samples one after another, each as it grows; a heading above each if there are several."""
    page = _Page()
    shown = -1
    try:
        for sample, text in _in_order(pieces, args.samples):
            if sample != shown:
                shown = sample
                page.end_line()
                if args.samples > 1:
                    page.write(f"=== sample {sample + 1} of {args.samples} ===\n")
                if not args.no_echo:
                    page.write(prompt, bold=True)
            page.write(text)
    finally:
        page.end_line()


def _in_order(pieces: Iterator["Piece"], n_samples: int) -> Iterator[tuple[int, str]]:
    """(sample, text): the first sample's text as it comes, then the second's, ...; the others wait."""
    waiting = [""] * n_samples
    done = [False] * n_samples
    current = 0
    yield current, ""  # so that the prompt is on the page before the model has read it
    for piece in pieces:
        waiting[piece.index] += piece.text
        done[piece.index] = piece.completion is not None
        while current < n_samples:
            yield current, waiting[current]
            waiting[current] = ""
            if not done[current]:
                break
            current += 1


class _Page:
    """Standard output: plain text elsewhere; on a terminal bold prompts and no control characters."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._bold = self._terminal and "NO_COLOR" not in os.environ
        self._line_is_open = False

    def write(self, text: str, bold: bool = False) -> None:
        """Show text now."""
        if not text:
            return
        self._line_is_open = not text.endswith("\n")
        if self._terminal:
            text = text.translate(_CONTROLS)
        print(f"\033[1m{text}\033[0m" if bold and self._bold else text, end="", flush=True)

    def end_line(self) -> None:
        """Begin a new line, unless on one already."""
        if self._line_is_open:
            self.write("\n")
