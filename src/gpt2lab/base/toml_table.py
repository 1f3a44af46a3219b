"""Dataclasses kept as TOML: read with every field's name and type checked, written with nothing left out."""

import dataclasses
import difflib
import tomllib
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from gpt2lab.base.errors import UserError

T = TypeVar("T")


def parse_toml(kind: type[T], text: str, where: str) -> T:
    """The dataclass `kind` that a TOML document spells; fields left out have their defaults.

    Args:
        kind: its fields are numbers, strings, booleans, Literals, tuples of strings, or dataclasses of such.
        text: the document.
        where: what it is called in errors.

    Raises:
        UserError: not TOML; an unknown field (close ones are named); a value of a wrong type.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}", where=where, fix="Mend that line") from error
    value: T = _from_table(kind, table, where=where, prefix="")
    return value


def as_table(value: Any) -> dict[str, Any]:
    """A dataclass as TOML can hold it: nested tables, without the fields that are None."""

    def without_none(table: dict[str, Any]) -> dict[str, Any]:
        return {
            key: without_none(value) if isinstance(value, dict) else value
            for key, value in table.items()
            if value is not None
        }

    return without_none(dataclasses.asdict(value))


def flattened(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, whose keys are ``table.field``."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _from_table(kind: Any, table: dict[str, Any], *, where: str, prefix: str) -> Any:
    """Build a dataclass from a TOML table, refusing fields it does not have."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            hint = f"Did you mean {close[0]!r}" if close else f"Known fields: {', '.join(hints)}"
            raise UserError(f"unknown field {prefix}{key}", where=where, fix=hint)
        expected = hints[key]
        if dataclasses.is_dataclass(expected) and isinstance(value, dict):
            values[key] = _from_table(expected, value, where=where, prefix=f"{prefix}{key}.")
        elif _fits(value, expected):
            values[key] = _converted(value, expected)
        else:
            raise UserError(
                f"{prefix}{key} = {value!r} is of the wrong kind",
                where=where,
                fix=f"It takes {_say(expected)}",
            )
    return kind(**values)


def _converted(value: Any, expected: Any) -> Any:
    if expected is float:
        return float(value)
    return tuple(value) if get_origin(expected) is tuple else value


def _fits(value: Any, expected: Any) -> bool:
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if get_origin(expected) is tuple:  # always of the kind `tuple[X, ...]`
        return isinstance(value, list) and all(_fits(item, get_args(expected)[0]) for item in value)
    if get_args(expected):  # `int | None`: TOML has no null, so only the int can be written
        return any(_fits(value, option) for option in get_args(expected))
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, expected) and isinstance(value, bool) == (expected is bool)


def _say(expected: Any) -> str:
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(repr(option) for option in get_args(expected))
    if get_origin(expected) is tuple:
        return f"a list, each item {_say(get_args(expected)[0])}"
    names = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
    return names.get(expected, "a table" if dataclasses.is_dataclass(expected) else "a whole number")
