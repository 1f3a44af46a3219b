"""The one exception type that a user's mistake raises; anything else is a bug and keeps its traceback."""

import os
from functools import partial
from os import PathLike
from typing import Any


class UserError(Exception):
    """Something the user can mend, said in three parts.

    Args:
        what: what is wrong, as a phrase without a full stop: ``"the shard is cut short"``.
        where: the file, line, field or option in which it was found.
        fix: what to do about it, as a sentence without a full stop.

    The command line prints it on one line and exits with code 2; a library user catches it.
    """

    def __init__(self, what: str, *, where: str | PathLike[str] | None = None, fix: str) -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:  # worker processes hand it to the main one by pickling
        return partial(type(self), where=self.where, fix=self.fix), (self.what,)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}. {self.fix}."


def speaks() -> bool:
    """Whether this process talks to the user: of those that torchrun starts the first does, for all."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"
