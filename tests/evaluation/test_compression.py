import gzip
import lzma
import random

import pytest

from gpt2lab.evaluation.compression import measure_compression


def _noise(seed: int, n_bytes: int) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


def test_noise_costs_eight_bits_a_byte_and_nothing_once_it_was_seen() -> None:
    noise = _noise(1, 200_000)
    measured = measure_compression(noise, training=b"")
    assert measured.gzip == pytest.approx(8, abs=0.02)
    assert measured.xz == pytest.approx(8, abs=0.02)
    assert measured.xz_after_training == pytest.approx(8, abs=0.02)
    assert measure_compression(noise, training=noise).xz_after_training < 0.05


def test_the_first_bytes_of_a_long_training_text_are_still_in_sight() -> None:
    seen = _noise(2, 100_000)
    training = seen + _noise(3, 2_000_000)  # beyond the window of `xz -0` to `-1`
    assert measure_compression(seen, training).xz_after_training < 0.1


def test_sizes_are_those_of_the_standard_tools() -> None:
    text = b"The same procedure as every year, James. " * 50
    measured = measure_compression(text, training=b"")
    assert measured.gzip == 8 * len(gzip.compress(text, 9)) / len(text)
    assert measured.xz == 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)
