"""`gpt2lab tokenizer`: train a vocabulary, encode text, decode tokens."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import decode_utf8, read_text

if TYPE_CHECKING:
    from gpt2lab.corpus.documents import Document

_DESCRIPTION = """Train a vocabulary, encode text, decode tokens.

examples:
  gpt2lab tokenizer train texts/ more.jsonl.gz --vocab-size 8192 --out my-tokenizer
  gpt2lab tokenizer encode my-tokenizer "Hello world" --pieces
  gpt2lab tokenizer encode gpt2 --file story.txt > story.tokens
  gpt2lab tokenizer decode gpt2 15496 995
  gpt2lab tokenizer decode gpt2 < story.tokens"""

_TokenizerName = Annotated[Positional[str], arg(metavar="TOKENIZER")]


def train(
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILES ...")],
    vocab_size: int,
    out: Path,
    overwrite: FlagCreatePairsOff[bool] = False,
) -> None:
    """Learn a byte-level BPE vocabulary from text.

    The result opens with `gpt2lab`, and as a GPT-2 tokenizer with transformers.

    Args:
        files: .txt, .md or .jsonl (field `text`), each also with .gz or .xz, or folders of such files
        vocab_size: how many tokens, GPT-2 has 50257; 256 are bytes, the last is <|endoftext|>
        out: directory to write tokenizer.json, vocab.json, merges.txt and tokenizer_config.json into
        overwrite: replace the tokenizer that is there
    """
    from time import perf_counter

    from gpt2lab.base.progress import format_bytes, format_duration
    from gpt2lab.corpus.documents import read_documents
    from gpt2lab.tokenizer import train_bpe
    from gpt2lab.tokenizer.vocabulary_files import holds_vocabulary

    if not files:
        raise UserError("no files are named", where="FILES", fix="Name files or folders with text in them")
    if out.is_file():
        raise UserError(
            "this is a file, and a tokenizer is a directory", where=out, fix="Choose another name"
        )
    if not overwrite and holds_vocabulary(out):
        raise UserError(
            "there is a tokenizer here already", where=out, fix="Choose another directory, or say --overwrite"
        )
    n_bytes = 0

    def texts(documents: "Iterator[Document]") -> Iterator[str]:
        nonlocal n_bytes
        for document in documents:
            n_bytes += len(document.text.encode())
            yield document.text

    started = perf_counter()
    tokenizer = train_bpe(_counted(texts(read_documents(files))), vocab_size)
    tokenizer.save(out)
    took = format_duration(perf_counter() - started)
    print(f"{out}: {tokenizer.vocab_size:,} tokens, learned from {format_bytes(n_bytes)} of text in {took}")


def encode(
    tokenizer: _TokenizerName,
    text: Annotated[Positional[str | None], arg(metavar="[TEXT]")] = None,
    file: Annotated[Path | None, arg(metavar="PATH")] = None,
    allow_special: FlagCreatePairsOff[bool] = False,
    pieces: FlagCreatePairsOff[bool] = False,
) -> None:
    """Print the token ids of a text, on one line.

    The text is TEXT, or that of --file, or standard input.

    Args:
        tokenizer: a tokenizer's directory or file, a model's or run's directory, a name (gpt2, ...), a Hub id
        text: the text itself
        file: read the text from this file, every character of it
        allow_special: read <|endoftext|> in the text as that token, not as text
        pieces: print a line for every token: its id, and the text it stands for in quotes
    """
    from gpt2lab.checkpoint.named_tokenizer import load_tokenizer_of

    if text is not None and file is not None:
        raise UserError("there is more than one text", fix="Give TEXT or --file, not both")
    loaded = load_tokenizer_of(tokenizer)
    if text is None:
        text = read_text(file) if file is not None else _standard_input()
    tokens = loaded.encode(text, allow_special=allow_special)
    if not pieces:
        print(*tokens)
        return
    width = len(str(max(tokens, default=0)))
    for token in tokens:
        print(f"{token:>{width}}  {_quoted(loaded.decode_bytes([token]))}")


def decode(
    tokenizer: _TokenizerName, tokens: Annotated[Positional[tuple[str, ...]], arg(metavar="[IDS ...]")] = ()
) -> None:
    """Print the text that token ids stand for, exactly, with no line break added in a pipe.

    The ids are those given, or those on standard input, with white space or commas between them.

    Args:
        tokenizer: a tokenizer's directory or file, a model's or run's directory, a name (gpt2, ...), a Hub id
        tokens: the ids
    """
    from gpt2lab.checkpoint.named_tokenizer import load_tokenizer_of

    loaded = load_tokenizer_of(tokenizer)
    words = (" ".join(tokens) if tokens else _standard_input()).replace(",", " ").split()
    wrong = next((word for word in words if not word.isascii() or not word.isdecimal()), None)
    if wrong is not None:
        raise UserError(f"{wrong[:40]!r} is not a token id", fix="Token ids are whole numbers from 0 on")
    sys.stdout.buffer.write(loaded.decode_bytes([int(word) for word in words]))
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def main(arguments: list[str]) -> int:
    """Run `gpt2lab tokenizer`; returns the exit code."""
    tyro.extras.subcommand_cli_from_dict(
        {"train": train, "encode": encode, "decode": decode},
        args=arguments,
        prog="gpt2lab tokenizer",
        description=_DESCRIPTION,
        sort_subcommands=False,
    )
    return 0


def _counted(texts: Iterator[str]) -> Iterator[str]:
    from gpt2lab.base.progress import track

    return track(texts, "reading", unit="documents")


def _standard_input() -> str:
    if sys.stdin.isatty():
        print("Reading standard input; end it with Ctrl-D.", file=sys.stderr)
    return decode_utf8(sys.stdin.buffer.read(), "standard input")


def _quoted(piece: bytes) -> str:
    """As text where it is text, else as bytes: a token may end in the middle of a character."""
    try:
        return repr(piece.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(piece)
