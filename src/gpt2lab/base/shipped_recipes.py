"""Recipes as TOML files: those that ship with the package by their names, anybody's own by their paths."""

import difflib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_text
from gpt2lab.base.toml_table import parse_toml

T = TypeVar("T")


def recipe_names(*folders: str) -> list[str]:
    """Names of the recipes that ship in ``gpt2lab/recipes``, or in a folder below it."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in _shipped(folders).iterdir()
        if entry.name.endswith(".toml")
    )


def read_recipe(kind: type[T], name_or_path: str, *folders: str, what: str = "recipe or TOML file") -> T:
    """A shipped recipe by its name, or any TOML file.

    Args:
        kind: the dataclass that it spells.
        name_or_path: one of `recipe_names`, or a path that ends in ``.toml``.
        folders: where below ``gpt2lab/recipes`` recipes of this kind lie.
        what: what could have been named here, for the error.

    Raises:
        UserError: no such recipe; not TOML; an unknown field (close ones are named); a value of a wrong type
            or out of range.
    """
    names = recipe_names(*folders)
    if name_or_path in names:
        text = (_shipped(folders) / f"{name_or_path}.toml").read_text("utf-8")
    elif name_or_path.endswith(".toml"):
        text = read_text(Path(name_or_path))
    else:
        close = difflib.get_close_matches(name_or_path, names, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise UserError(f"there is no {what} {name_or_path!r}", fix=f"{hint}Recipes: {', '.join(names)}")
    return parse_toml(kind, text, name_or_path)


def _shipped(folders: tuple[str, ...]) -> Traversable:
    return resources.files("gpt2lab").joinpath("recipes", *folders)
