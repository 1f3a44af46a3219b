import pickle
from pathlib import Path

from gpt2lab.base.errors import UserError


def test_three_parts_in_one_line() -> None:
    error = UserError("the shard is cut short", where=Path("data/a.bin"), fix="Download it again")
    assert str(error) == "data/a.bin: the shard is cut short. Download it again."
    assert (error.what, error.where, error.fix) == (
        "the shard is cut short",
        "data/a.bin",
        "Download it again",
    )


def test_without_a_place() -> None:
    assert str(UserError("no model named x", fix="Choose another")) == "no model named x. Choose another."


def test_it_crosses_from_one_process_to_another() -> None:
    """Worker processes hand their errors to the main one by pickling them."""
    error = UserError("what", where="where", fix="fix")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
