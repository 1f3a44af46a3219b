from dataclasses import dataclass, field
from typing import Literal

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.base.toml_table import as_table, parse_toml


@dataclass(frozen=True)
class Inner:
    share: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"] = "a"
    most: int | None = None
    fast: bool = False
    inner: Inner = field(default_factory=Inner)


def test_fields_that_are_left_out_have_their_defaults():
    assert parse_toml(Outer, "", "x") == Outer()
    table = parse_toml(Outer, "kind = 'b'\nmost = 3\n[inner]\nshare = 1\nnames = ['p', 'q']", "x")
    assert table == Outer("b", 3, False, Inner(1.0, ("p", "q")))
    assert isinstance(table.inner.share, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind = 'c'", "kind = 'c' is of the wrong kind. It takes one of 'a', 'b'"),
        ("most = true", "most = True is of the wrong kind"),
        ("fast = 1", "It takes true or false"),
        ("knd = 'a'", "unknown field knd. Did you mean 'kind'"),
        ("inner = 3", "It takes a table"),
        ("[inner]\nshare = 'x'", "inner.share = 'x' is of the wrong kind. It takes a number"),
        ("[inner]\nnames = 'x'", "It takes a list, each item text in quotes"),
        ("[inner]\nnames = [1]", "It takes a list, each item text in quotes"),
        ("a b", "not valid TOML"),
    ],
)
def test_what_does_not_fit_is_named(text, message):
    with pytest.raises(UserError, match=r"^file\.toml: ") as raised:
        parse_toml(Outer, text, "file.toml")
    assert message in str(raised.value)


def test_a_table_says_everything_that_toml_can_say():
    assert as_table(Outer(inner=Inner(names=("p",)))) == {
        "kind": "a",
        "fast": False,
        "inner": {"share": 0.5, "names": ("p",)},
    }
