"""What a folder of shards holds: `manifest.json`, written last, beside them.

The shards are plain llm.c files that know neither their vocabulary nor where they came from; the manifest
says both, with the counts that bits per byte need and a checksum a file. Published shards have none and
are read all the same (`gpt2lab.data.dataset`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json, sha256_of, write_json
from gpt2lab.data.split import SPLITS, Split

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ShardFacts:
    """One shard file: its name in the folder, its split, tokens, bytes on disk, SHA-256 of those bytes."""

    file: str
    split: Split
    tokens: int
    size: int
    sha256: str


@dataclass(frozen=True)
class SplitFacts:
    """What one split amounts to.

    Attributes:
        documents: how many.
        tokens: how many, each document's `<|endoftext|>` among them.
        text_bytes: UTF-8 bytes of the documents' text: the denominator of bits per byte.
    """

    documents: int
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`.

    Attributes:
        tokenizer_fingerprint: SHA-256 of the vocabulary the tokens belong to (`Tokenizer.fingerprint`).
        vocab_size: every token is below it.
        end_of_text: the id that precedes each document, or None where documents run on unseparated.
        sources: where the text came from, in words or paths.
        splits: totals of the splits that exist.
        shards: every shard, in reading order.
        created_by: program and version.
        format_version: of this file.
    """

    tokenizer_fingerprint: str
    vocab_size: int
    end_of_text: int | None
    sources: tuple[str, ...]
    splits: Mapping[Split, SplitFacts]
    shards: tuple[ShardFacts, ...]
    created_by: str = f"gpt2lab {gpt2lab.__version__}"
    format_version: int = FORMAT_VERSION

    def save(self, folder: Path) -> None:
        """Write `folder/manifest.json` atomically."""
        write_json(folder / MANIFEST_NAME, asdict(self))


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder of shards, or None where there is none.

    Raises:
        UserError: it is not JSON, a field is missing or of the wrong type, or it is of a newer format.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return None
    fields = _Fields(read_json(path), path, "")
    version = fields.take("format_version", int)
    if version != FORMAT_VERSION:
        raise UserError(
            f"manifest format {version}, and this program reads format {FORMAT_VERSION}",
            where=path,
            fix="Use the version of gpt2lab that wrote it, or build the shards again",
        )
    splits = _Fields(fields.take("splits", dict), path, "splits.")
    shards = [
        _Fields(entry, path, f"shards[{index}].") for index, entry in enumerate(fields.take("shards", list))
    ]
    manifest = Manifest(
        tokenizer_fingerprint=fields.take("tokenizer_fingerprint", str),
        vocab_size=fields.take("vocab_size", int),
        end_of_text=fields.take("end_of_text", int, type(None)),
        sources=tuple(str(source) for source in fields.take("sources", list)),
        splits={split: _split_facts(splits, split) for split in SPLITS if split in splits.values},
        shards=tuple(_shard_facts(entry) for entry in shards),
        created_by=fields.take("created_by", str),
    )
    _require_totals(manifest, path)
    return manifest


def verify_files(folder: Path, shards: Iterable[ShardFacts], *, checksums: bool) -> None:
    """Compare shards on disk with their manifest.

    Args:
        folder: where they lie.
        shards: what they should be: all of a manifest's, or those of one split.
        checksums: also read every byte and compare SHA-256; sizes are always compared.

    Raises:
        UserError: a shard is missing, of another size, or (with `checksums`) altered.
    """
    for shard in shards:
        path = folder / shard.file
        if not path.exists():
            raise UserError(
                "the manifest names this shard and it is not there",
                where=path,
                fix="Copy it again, or build the shards again",
            )
        size = path.stat().st_size
        if size != shard.size:
            raise UserError(
                f"the shard is {'cut short' if size < shard.size else 'too long'}: the manifest says "
                f"{shard.size:,} bytes and the file has {size:,}",
                where=path,
                fix="Copy it again, or build the shards again",
            )
        if checksums and sha256_of(path) != shard.sha256:
            raise UserError(
                "the shard was altered: its SHA-256 is not the manifest's",
                where=path,
                fix="Copy it again, or build the shards again",
            )


T = TypeVar("T")


@dataclass(frozen=True)
class _Fields:
    """A JSON object whose fields are taken by name and type, with errors that say which field is wrong."""

    values: Any
    path: Path
    prefix: str

    def take(self, name: str, *kinds: type[T]) -> T:
        value = self.values.get(name, _MISSING) if isinstance(self.values, dict) else _MISSING
        if not isinstance(value, kinds) or isinstance(value, bool):
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            found = "it is missing" if value is _MISSING else f"it is {value!r:.40}"
            raise UserError(
                f"field `{self.prefix}{name}` should be {expected} and {found}",
                where=self.path,
                fix="Restore the file from where it came, or build the shards again",
            )
        return value


_MISSING = object()


def _require_totals(manifest: Manifest, path: Path) -> None:
    """The tokens of each split are those of its shards, so that no split has shards and no totals."""
    for split in SPLITS:
        listed = sum(shard.tokens for shard in manifest.shards if shard.split == split)
        stated = manifest.splits[split].tokens if split in manifest.splits else 0
        if listed != stated:
            raise UserError(
                f"the `{split}` shards add up to {listed:,} tokens and the manifest states {stated:,}",
                where=path,
                fix="Restore the file from where it came, or build the shards again",
            )


def _split_facts(splits: _Fields, split: Split) -> SplitFacts:
    fields = _Fields(splits.values[split], splits.path, f"splits.{split}.")
    return SplitFacts(
        documents=fields.take("documents", int),
        tokens=fields.take("tokens", int),
        text_bytes=fields.take("text_bytes", int),
    )


def _shard_facts(fields: _Fields) -> ShardFacts:
    name, split_name = fields.take("file", str), fields.take("split", str)
    split = next((split for split in SPLITS if split == split_name), None)
    if split is None or Path(name).name != name:
        raise UserError(
            f"`{fields.prefix}file` should be a plain file name and `split` one of {', '.join(SPLITS)}; "
            f"they are {name!r} and {split_name!r}",
            where=fields.path,
            fix="Restore the file from where it came, or build the shards again",
        )
    return ShardFacts(
        file=name,
        split=split,
        tokens=fields.take("tokens", int),
        size=fields.take("size", int),
        sha256=fields.take("sha256", str),
    )
