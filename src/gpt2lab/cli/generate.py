"""`gpt2lab generate`: a model continues a text."""

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import decode_utf8, read_text
from gpt2lab.generation.options import (
    Draw,
    Length,
    Repeats,
    SamplingOptions,
    Search,
    Words,
    fresh_seed,
)

if TYPE_CHECKING:
    from gpt2lab.generation.decoder import Backend
    from gpt2lab.generation.engine import Completion, Piece
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
  (cat article.txt; echo "TL;DR:") | gpt2lab generate gpt2 --no-echo --num-beams 5 \\
      --no-repeat-ngram-size 2 --early-stopping True --max-new-tokens 25
  gpt2lab generate gpt2-xl "Once upon" --draft gpt2 --top-k 40
  gpt2lab generate gpt2"""


_T = TypeVar("_T")
_Group = OmitArgPrefixes[UseAppendAction[FlagCreatePairsOff[_T]]]


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
    length: _Group[Length] = field(default_factory=Length)
    draw: _Group[Draw] = field(default_factory=Draw)
    repeats: _Group[Repeats] = field(default_factory=Repeats)
    words: _Group[Words] = field(default_factory=Words)
    search: _Group[Search] = field(default_factory=Search)
    draft: Annotated[str | None, arg(metavar="MODEL")] = None
    """a smaller model with the same vocabulary: it guesses, MODEL checks; the text is drawn the same way"""
    logprobs: Annotated[int | None, arg(metavar="N")] = None
    """list every token's probability, and the N likeliest in its place, on standard error afterwards"""
    cache_mib: Annotated[int | None, arg(metavar="INT")] = None
    """most memory for keys and values, in MiB; samples wait for one another rather than exceed it"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute; auto takes a GPU if there is one"""
    precision: Literal["auto", "float32", "bf16", "int8", "int4", "int4-fast"] = "auto"
    """of the weights: bf16 is close to float32 and several times as fast on a CPU, int8, int4 and int4-fast
    are faster still and lose a little; auto is bf16 where that is fast; float32 computes in plain PyTorch"""
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
    options = _options(args)
    prompt = _given_prompt(args)

    from gpt2lab import load
    from gpt2lab.base.device import pick_device
    from gpt2lab.generation.backends import backend_for

    device = pick_device(args.device)
    model, tokenizer = load(args.model)
    if tokenizer is None:
        raise UserError(
            "there is no tokenizer with this model, so it can neither read nor write text",
            where=args.model,
            fix="Put the tokenizer.json it was trained with into its directory",
        )
    draft = None if args.draft is None else _load_draft(args.draft, args.model, tokenizer)
    voice = _Voice(
        backend_for(model, device, args.precision),
        tokenizer,
        None if draft is None else backend_for(draft, device, args.precision),
        options,
        args,
    )
    del model, draft  # an engine has packed its own copy of their weights
    if prompt is not None:
        _continue(voice, prompt)
        return
    for line in _lines():
        try:
            _continue(voice, line)
        except UserError as error:  # too long, for example; the next line may not be
            print(error, file=sys.stderr)
        except KeyboardInterrupt:  # leaves this text, not the conversation
            continue


@dataclass(frozen=True)
class _Voice:
    """Who speaks, and how."""

    model: "Backend"
    tokenizer: "Tokenizer"
    draft: "Backend | None"
    options: SamplingOptions
    args: Arguments


def _options(args: Arguments) -> SamplingOptions:
    if args.cache_mib is not None and args.cache_mib < 1:
        raise UserError(f"{args.cache_mib} is not possible", where="cache_mib", fix="Allow at least 1 MiB")
    groups = (args.length, args.draw, args.repeats, args.words, args.search)
    chosen = {name: value for group in groups for name, value in vars(group).items()}
    return SamplingOptions(**chosen, logprobs=args.logprobs)


def _load_draft(name: str, model_name: str, tokenizer: "Tokenizer") -> "GPT":
    from gpt2lab import load

    draft: GPT
    draft, its_tokenizer = load(name)
    if its_tokenizer != tokenizer:
        raise UserError(
            f"its vocabulary is not that of {model_name}, so it cannot guess for it",
            where=f"draft {name}",
            fix="Use a smaller model that was trained with the same vocabulary",
        )
    return draft


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


def _continue(voice: _Voice, prompt: str) -> None:
    """Print the prompt's continuations to standard output, and a line about them to standard error."""
    from gpt2lab.generation.engine import stream

    args = voice.args
    seed = fresh_seed() if args.draw.seed is None else args.draw.seed
    pieces = stream(
        voice.model,
        voice.tokenizer,
        [prompt],
        replace(voice.options, seed=seed),
        draft=voice.draft,
        max_cache_bytes=None if args.cache_mib is None else args.cache_mib * 2**20,
    )
    done: list[Completion] = []
    n_tokens = 0
    started = time.monotonic()

    def counted() -> Iterator["Piece"]:
        nonlocal n_tokens
        for piece in pieces:
            n_tokens += piece.n_tokens
            if piece.completion is not None:
                done.append(piece.completion)
            yield piece

    try:
        _print_samples(iter(list(counted())) if args.no_stream else counted(), prompt, args)
    finally:
        seconds = time.monotonic() - started
        print(
            f"[{n_tokens} tokens in {seconds:.1f} s, {n_tokens / seconds:.1f} tokens/s; seed {seed}]",
            file=sys.stderr,
        )
        if any(completion.n_restarts for completion in done):
            limit = voice.model.config.context_length
            print(f"[the context of {limit:,} tokens filled up; its last half was kept]", file=sys.stderr)
        if args.logprobs is not None:
            for completion in sorted(done, key=lambda completion: completion.seed):
                print(_probabilities(completion, voice.tokenizer), file=sys.stderr)


def _probabilities(completion: "Completion", tokenizer: "Tokenizer") -> str:
    """A line for each token: its probability, itself, and the likeliest ones in its place."""

    def shown(token: int) -> str:
        return repr(tokenizer.decode([token]))

    lines = []
    for rated in completion.logprobs or ():
        others = "  ".join(f"{shown(token)} {math.exp(logprob):.1%}" for token, logprob in rated.top)
        own = "" if rated.logprob is None else f"{math.exp(rated.logprob):.1%}"
        lines.append(f"{own:>6} {shown(rated.token):<16}{'| ' + others if others else ''}".rstrip())
    return "\n".join(lines)


def _print_samples(pieces: Iterator["Piece"], prompt: str, args: Arguments) -> None:
    """Print samples one after another, each as it grows; a heading above each if there are several."""
    page = _Page()
    shown = -1
    try:
        for sample, text in _in_order(pieces, args.draw.samples):
            if sample != shown:
                shown = sample
                page.end_line()
                if args.draw.samples > 1:
                    page.write(f"=== sample {sample + 1} of {args.draw.samples} ===\n")
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
