"""Encoding many texts at once, on all cores, by the fastest library that gives tiktoken's ids.

That library is fastokens: ten times tiktoken's speed, no dependency of its own. It is trusted only after it
has encoded a handful of hard strings as tiktoken does; else, or where it is missing, tiktoken does the work.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

from gpt2lab.base.groups import groups_of_size
from gpt2lab.tokenizer.base import TokenArray, without_lone_surrogates
from gpt2lab.tokenizer.vocabulary import Vocabulary
from gpt2lab.tokenizer.vocabulary_files import tokenizer_json

_GROUP_CHARACTERS = 1 << 20  # one native call a group: long enough to hide its cost, short enough to balance
R = TypeVar("R")

HARD_STRINGS = (
    "Hello world, it's 1,000.5 o'clock; WE'LL see: I'd've 'tis y'all's\n\n\n  def f(x):\n\t\treturn  x \n",
    " \t \r\n \n a\x00b\x1c\x1d c\x7f\x85d\xa0e \u2003\u3000f\u200b\u2028g    ",
    "naïve Ärger Straße ſtraß İstanbul ǅungla e\u0301\u0327 हिन्दी ไทย 日本語テキスト 한국어 العربية٣٤ ½²Ⅷ௧",
    "👩‍👩‍👧‍👦🏽🇫🇷 🤦🏼‍♂️\u200d\ufe0f\U0001fae8\U00010940\U0010ffff\ufffd\ue000's",
    "<|endoftext|> <|endoftext|>text<|endoftext|",
    "a" * 300 + "=" * 70 + " " * 90 + "x" + "\n" * 40 + "1234567890" * 9 + "!?" * 33,
)
"""Contractions, spaces of every kind, marks, scripts, numerals, emoji, unassigned code points, long runs."""


def bulk_encoder(
    by_rank: Vocabulary, id_of_rank: TokenArray, encode: Callable[[str], list[int]]
) -> Callable[[Sequence[str]], list[TokenArray]]:
    """The fastest way to encode many texts exactly as `encode` does.

    Args:
        by_rank: the vocabulary with its tokens in the order in which merges make them, no special ones.
        id_of_rank: of shape (tokens,); the ids to give, in the type to give them in.
        encode: the reference, one text at a time.

    Returns:
        A function from texts to one array of shape (tokens,) each.
    """

    def by_reference(texts: Sequence[str]) -> list[TokenArray]:
        return [np.array(encode(text), dtype=id_of_rank.dtype) for text in texts]

    fast, why_not = None, ""
    try:
        fast = _fastokens(by_rank, id_of_rank)
    except ImportError as error:
        why_not = f"the fast encoder is not there ({error})"
    except ValueError as error:
        why_not = f"the fast encoder refuses this vocabulary ({error})"
    if fast and any(
        a.tolist() != encode(text) for a, text in zip(fast(HARD_STRINGS), HARD_STRINGS, strict=True)
    ):
        fast, why_not = None, "the fast encoder gives other tokens than tiktoken"
    if fast is None:
        warnings.warn(
            f"{why_not}: encoding with tiktoken, about ten times slower", RuntimeWarning, stacklevel=2
        )
    return in_groups(fast or by_reference)


def in_groups(encode_group: Callable[[list[str]], list[R]]) -> Callable[[Sequence[str]], list[R]]:
    """Spread `encode_group`, which must release Python's lock, over threads, some megabytes a call."""

    def encode_batch(texts: Sequence[str]) -> list[R]:
        groups = list(groups_of_size(texts, len, _GROUP_CHARACTERS))
        if len(groups) < 2:
            return encode_group(list(texts))
        with ThreadPoolExecutor() as threads:
            return [tokens for group in threads.map(encode_group, groups) for tokens in group]

    return encode_batch


def _fastokens(by_rank: Vocabulary, id_of_rank: TokenArray) -> Callable[[Sequence[str]], list[TokenArray]]:
    """Encode a group with fastokens.

    Raises:
        ImportError: it is not installed.
        ValueError: it cannot represent this vocabulary.
    """
    from fastokens import Tokenizer as Fast

    fast = Fast.from_json_str(json.dumps(tokenizer_json(by_rank)))
    ids_are_ranks = np.array_equal(id_of_rank, np.arange(len(id_of_rank)))  # as in GPT-2: one step less

    def encode_group(texts: Sequence[str]) -> list[TokenArray]:
        try:
            flat, ends = fast.encode_batch_flat(list(texts))
        except UnicodeEncodeError:  # a lone surrogate somewhere
            flat, ends = fast.encode_batch_flat([without_lone_surrogates(text) for text in texts])
        ranks = np.frombuffer(flat, dtype="<u4")
        tokens = ranks.astype(id_of_rank.dtype) if ids_are_ranks else id_of_rank[ranks]
        offsets = np.frombuffer(ends, dtype="<u8").tolist()
        return [tokens[start:end] for start, end in pairwise(offsets)]

    return encode_group
