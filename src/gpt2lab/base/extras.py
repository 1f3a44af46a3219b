"""Packages that only some parts need: imported at their first use, named with the remedy when missing."""

import importlib
from typing import Any

from gpt2lab.base.errors import UserError


def import_extra(module: str, extra: str) -> Any:
    """The module `module`, which installing ``gpt2lab[extra]`` brings.

    Raises:
        UserError: it is not installed, or something that it needs is not.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"a package that this needs cannot be imported: {error}",
            where=module,
            fix=f"Run `pip install 'gpt2lab[{extra}]'`",
        ) from error
