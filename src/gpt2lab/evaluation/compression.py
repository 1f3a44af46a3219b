"""What general-purpose compressors make of a text, in the unit a language model is measured in.

A model that predicts a text at b bits per byte could, with arithmetic coding, store it in that many bits. So
gzip and xz give honest marks to stand beside it. They start empty-handed, while the model has read its
training text; to be fair to xz, it is also given that text first.
"""

import gzip
import lzma
from dataclasses import dataclass

_LARGEST_DICTIONARY = 1536 * 2**20  # xz's limit


@dataclass(frozen=True)
class Compression:
    """Bits per byte of one text under three compressors; fewer is better."""

    gzip: float
    """gzip -9"""
    xz: float
    """xz -9e"""
    xz_after_training: float
    """what the text adds to `xz -9e` of the training text before it"""


def measure_compression(held_out: bytes, training: bytes) -> Compression:
    """Compress `held_out` alone, and after `training`.

    Args:
        held_out: the text to measure; not empty.
        training: what a model was trained on. xz's window is made wide enough to see all of it.
    """
    alone = len(lzma.compress(held_out, preset=9 | lzma.PRESET_EXTREME))
    added = len(_xz_wide(training + held_out)) - len(_xz_wide(training))
    bits = 8 / len(held_out)
    return Compression(len(gzip.compress(held_out, 9)) * bits, alone * bits, added * bits)


def _xz_wide(data: bytes) -> bytes:
    # No wider than the data: xz takes eleven times its window in memory, and more of it sees nothing more.
    dictionary = min(_LARGEST_DICTIONARY, max(2**20, len(data)))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    return lzma.compress(data, filters=filters)
