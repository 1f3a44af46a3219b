from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.bloom import PAPER_ERROR, BloomFilter
from gpt2lab.corpus.ngram_index import NgramIndex

_NUMBERS = st.lists(st.integers(0, 2**64 - 1), max_size=200).map(lambda x: np.array(x, dtype=np.uint64))


def numbers(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, size, dtype=np.uint64)


@given(_NUMBERS, _NUMBERS)
def test_what_was_added_is_found(added: np.ndarray, others: np.ndarray) -> None:
    seen = BloomFilter(200)
    seen.add(added)
    assert seen.contains(added).all()
    assert (seen.contains(others) >= np.isin(others, added)).all()


@pytest.mark.parametrize("error", [1e-1, 1e-2, 1e-3])
def test_wrong_answers_are_as_rare_as_promised(error: float) -> None:
    seen = BloomFilter(100_000, error)
    assert seen.error_now == 0
    seen.add(numbers(1, 100_000))
    wrong = seen.contains(numbers(2, 1_000_000)).mean()
    assert wrong <= error * 1.05  # five standard deviations at the rarest
    assert wrong == pytest.approx(seen.error_now, rel=0.2)


def test_the_papers_error_is_kept_and_none_of_a_million_others_is_found() -> None:
    seen = BloomFilter(200_000)
    seen.add(numbers(1, 200_000))
    assert seen.error_now <= PAPER_ERROR
    assert not seen.contains(numbers(2, 1_000_000)).any()
    assert seen.n_bytes / 200_000 == pytest.approx(38.4 / 8, rel=0.02)  # bytes a number


def test_adding_by_parts_or_twice_gives_the_same_filter(tmp_path: Path) -> None:
    files = []
    for index, parts in enumerate(([0, 40_000], [0, 7, 20_000, 40_000], [0, 40_000, 5, 300])):
        seen = BloomFilter(40_000)
        for start, end in zip(parts[:-1], parts[1:], strict=True):
            seen.add(numbers(1, 40_000)[min(start, end) : max(start, end)])
        seen.save(tmp_path / str(index))
        files.append((tmp_path / str(index)).read_bytes())
    assert files[0] == files[1] == files[2]


def test_a_filter_comes_back_from_its_file_bit_for_bit(tmp_path: Path) -> None:
    seen = BloomFilter(1000, 1e-3)
    seen.add(numbers(1, 1000))
    seen.save(tmp_path / "filter")
    loaded = BloomFilter.load(tmp_path / "filter")
    assert (loaded.capacity, loaded.error, loaded.n_probes) == (1000, 1e-3, seen.n_probes)
    asked = numbers(2, 100_000)
    assert (loaded.contains(asked) == seen.contains(asked)).all()
    loaded.add(asked[:10])
    loaded.save(tmp_path / "more")
    seen.add(asked[:10])
    seen.save(tmp_path / "filter")
    assert (tmp_path / "filter").read_bytes() == (tmp_path / "more").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-8], "cut short"),
        (lambda data: data[:-3], "cut short"),
        (lambda data: data + b"12345678", "cut short"),
        (lambda data: b"x" + data, "no Bloom filter"),
        (lambda data: b"", "no Bloom filter"),
        (lambda data: b"[1]\n" + data, "no Bloom filter"),
        (lambda data: data.replace(b'"capacity": 10', b'"capacity": "a"'), "no Bloom filter"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "filter"
    BloomFilter(10).save(path)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        BloomFilter.load(path)


def test_no_file_and_too_large_a_filter_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        BloomFilter.load(tmp_path / "none")
    with pytest.raises(UserError, match="GB"):
        BloomFilter(10**13)


@given(_NUMBERS, _NUMBERS)
def test_an_index_finds_its_members_and_where_they_are(members: np.ndarray, others: np.ndarray) -> None:
    index = NgramIndex(members)
    asked = np.concatenate([others, members, others])
    places, found = index.find(asked)
    assert index.members.tolist() == sorted(set(members.tolist()))
    assert places.tolist() == np.flatnonzero(np.isin(asked, members)).tolist()
    assert (index.members[found] == asked[places]).all()
    assert (index.contains(asked) == np.isin(asked, members)).all()
