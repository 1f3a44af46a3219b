"""A byte-pair vocabulary: its tokens, its merges, and what makes it sound."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from gpt2lab.base.errors import UserError
from gpt2lab.tokenizer import byte_alphabet

Family = Literal["gpt1", "gpt2"]

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<unk>"  # GPT-1's only special token: what its vocabulary cannot write
END_OF_WORD = "</w>"  # ends the last token of every word of GPT-1

_LOOKS_SPECIAL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")  # <|endoftext|>, <unk>, [PAD]
_GET_A_WHOLE_ONE = "Fetch the tokenizer's files again, or train a new vocabulary"


@dataclass(frozen=True)
class Vocabulary:
    """The two lists that define a byte-pair encoding, and the tokens outside it.

    Args:
        family: "gpt2" (bytes, written in `byte_alphabet`) or "gpt1" (characters, words end in ``</w>``).
        tokens: every token as vocabulary files write it; its index is its id.
        merges: pairs to join, the most urgent first.
        special: tokens that no merge makes, such as ``<|endoftext|>``, and their ids.
    """

    family: Family
    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    special: Mapping[str, int]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) over tokens and merges, from which all else follows."""
        return hashlib.sha256(json.dumps([self.tokens, self.merges]).encode()).hexdigest()

    @property
    def ordinary_ids(self) -> dict[str, int]:
        """The id of every token but the special ones."""
        return {token: i for i, token in enumerate(self.tokens) if token not in self.special}


def checked_vocabulary(
    ids: Mapping[str, int], merges: Sequence[tuple[str, str]], declared_special: Iterable[str], where: Path
) -> Vocabulary:
    """Assemble a `Vocabulary` from what files say.

    Args:
        ids: every token's id, special tokens included.
        merges: pairs, the most urgent first.
        declared_special: tokens that the files themselves call special.
        where: the file or folder to name in errors.

    Raises:
        UserError: ids with holes, merges of tokens that do not exist, tokens that nothing makes.
    """
    tokens = _tokens_by_id(ids, where)
    family = _family(ids, where)
    made = _base_symbols(ids, family, where)
    for number, pair in enumerate(merges, 1):
        _check_merge(number, pair, made, ids, where)
        made.add(pair[0] + pair[1])
    declared = set(declared_special)
    special = {token: i for token, i in ids.items() if token not in made}
    strays = [token for token in special if token not in declared and not _LOOKS_SPECIAL.fullmatch(token)]
    if strays:
        raise UserError(
            f"{len(strays):,} tokens of the vocabulary are made by no merge, {strays[0]!r} among them",
            where=where,
            fix="Check that the vocabulary and the merges belong together",
        )
    return Vocabulary(family, tokens, tuple(merges), special)


def _tokens_by_id(ids: Mapping[str, int], where: Path) -> tuple[str, ...]:
    """Invert `ids`, which must be a bijection onto 0 to n - 1."""
    token_of: dict[int, str] = {}
    for token, i in ids.items():
        if not isinstance(i, int) or isinstance(i, bool):
            raise UserError(
                f"the id of {token!r} is {i!r}, not an integer", where=where, fix=_GET_A_WHOLE_ONE
            )
        if i in token_of:
            raise UserError(
                f"id {i:,} belongs to both {token_of[i]!r} and {token!r}", where=where, fix=_GET_A_WHOLE_ONE
            )
        token_of[i] = token
    missing = next((i for i in range(len(token_of)) if i not in token_of), None)
    if missing is not None:
        raise UserError(
            f"no token has id {missing:,}: {len(token_of):,} tokens must have the ids "
            f"0 to {len(token_of) - 1:,}",
            where=where,
            fix=_GET_A_WHOLE_ONE,
        )
    return tuple(token_of[i] for i in range(len(token_of)))


def _family(ids: Mapping[str, int], where: Path) -> Family:
    """Tell the two families apart by what only one of them has."""
    if byte_alphabet.from_bytes(b" ") in ids:
        return "gpt2"
    if any(token.endswith(END_OF_WORD) for token in ids):
        return "gpt1"
    raise UserError(
        "neither GPT-2's vocabulary (every byte, a space written as 'Ġ') nor GPT-1's (words end in '</w>')",
        where=where,
        fix="Use the tokenizer of a GPT-1 or GPT-2 model",
    )


def _base_symbols(ids: Mapping[str, int], family: Family, where: Path) -> set[str]:
    """The tokens that text is cut into before any merge."""
    if family == "gpt1":
        if UNKNOWN not in ids:
            raise UserError(f"there is no {UNKNOWN!r} token", where=where, fix=_GET_A_WHOLE_ONE)
        return {token for token in ids if len(token.removesuffix(END_OF_WORD)) == 1}
    for character in byte_alphabet.CHARACTERS:
        if character not in ids:
            byte = byte_alphabet.to_bytes(character)[0]
            raise UserError(
                f"byte 0x{byte:02x} has no token ({character!r}), so not every text could be encoded",
                where=where,
                fix=_GET_A_WHOLE_ONE,
            )
    return set(byte_alphabet.CHARACTERS)


def _check_merge(
    number: int, pair: tuple[str, str], made: set[str], ids: Mapping[str, int], where: Path
) -> None:
    """Each merge joins two tokens that exist by then into one that is new and in the vocabulary."""
    left, right = pair
    for part in pair:
        if part not in made:
            why = "is made only by a later merge" if part in ids else "is not in the vocabulary"
            raise UserError(
                f"merge {number:,} joins {left!r} and {right!r}, but {part!r} {why}",
                where=where,
                fix="Check that the vocabulary and the merges belong together",
            )
    if left + right not in ids:
        raise UserError(
            f"merge {number:,} makes {left + right!r}, which is not in the vocabulary",
            where=where,
            fix="Check that the vocabulary and the merges belong together",
        )
    if left + right in made:
        raise UserError(
            f"merge {number:,} makes {left + right!r} a second time", where=where, fix=_GET_A_WHOLE_ONE
        )
