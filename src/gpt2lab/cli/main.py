"""`gpt2lab`: finds the verb, runs it, and turns a user's mistake into one line and exit code 2."""

import os
import sys
from importlib import import_module

import gpt2lab
from gpt2lab.base.errors import UserError, speaks

_VERBS = {
    "demo": "from text to a talking model in minutes, with a report; no network",
    "doctor": "what this machine has, what fits on it, what is missing",
    "corpus": "from pages and texts to clean documents and token shards",
    "train": "train a model from a recipe, or go on with a run",
    "compare": "whether one recipe beats another, over seeds",
    "generate": "write text with a model",
    "bench": "how fast this machine writes, against its own limits",
    "tokenizer": "train a vocabulary, encode text, decode tokens",
}
_INTERRUPTED = 130  # what shells report for a program ended by Ctrl-C
_READER_LEFT = 141  # and for one whose output nobody reads any more (`| head`)


def main(arguments: list[str] | None = None) -> int:
    """Run one command line (without the program's name); returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"gpt2lab {gpt2lab.__version__}")
        return 0
    try:
        return _run(words[0], words[1:])
    except UserError as error:
        if speaks():
            print(f"gpt2lab: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gpt2lab: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this Python complains about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_LEFT


def _run(verb: str, arguments: list[str]) -> int:
    if verb not in _VERBS:
        import difflib

        close = difflib.get_close_matches(verb, _VERBS, n=1)
        hint = f"Did you mean `gpt2lab {close[0]}`?" if close else "See `gpt2lab --help`"
        raise UserError(f"there is no command {verb!r}", fix=hint.rstrip("?"))
    exit_code: int = import_module(f"gpt2lab.cli.{verb}").main(arguments)
    return exit_code


def _help() -> str:
    verbs = "\n".join(f"  {verb:<11}{what}" for verb, what in _VERBS.items())
    return f"""gpt2lab {gpt2lab.__version__}: the whole GPT-2 system in one package

usage: gpt2lab COMMAND ...        (gpt2lab COMMAND --help explains one)

{verbs}

start here:
  gpt2lab demo                                   a small GPT-2 learns English
  gpt2lab train laptop-10m --data.path texts/    train on your folder of text
  gpt2lab generate runs/laptop-10m "Once upon"   let it write
  gpt2lab generate gpt2 "Once upon" --top-k 40   the published GPT-2 (0.5 GB)"""
