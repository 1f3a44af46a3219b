"""checksums.json: size and SHA-256 of every file in a checkpoint, so that damage is noticed when it is read.

Written last, inside the folder that only then gets its name. Directories from elsewhere have none, and
nothing is checked there.
"""

from collections.abc import Callable
from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json, sha256_of, write_json

FILE_NAME = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Record every file now in `folder`, sub-folders included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE_NAME)
    write_json(
        folder / FILE_NAME,
        {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        },
    )


def listed_files(folder: Path) -> list[str]:
    """The files that `folder`'s checksums cover; none where there are no checksums.

    Raises:
        UserError: checksums.json is not JSON.
    """
    return list(_read(folder)) if (folder / FILE_NAME).exists() else []


def verify_checksums(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Compare the files whose names are `wanted` with what was recorded, if anything was.

    Raises:
        UserError: a file is missing, cut short or altered; it is named.
    """
    if not (folder / FILE_NAME).exists():
        return
    for name, (size, sha256) in _read(folder).items():
        problem = _problem(folder / name, size, sha256) if wanted(name) else None
        if problem:
            raise UserError(
                problem,
                where=folder / name,
                fix="Restore it from a copy; or, if you or another program changed it on purpose, delete "
                f"{folder / FILE_NAME}",
            )


def _read(folder: Path) -> dict[str, tuple[int, str]]:
    """File name -> size in bytes, SHA-256."""
    path = folder / FILE_NAME
    recorded = read_json(path)
    try:
        return {name: (entry["size"], entry["sha256"]) for name, entry in recorded.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError("this is no list of checksums", where=path, fix="Restore it from a copy") from error


def _problem(path: Path, size: int, sha256: str) -> str | None:
    if not path.exists():
        return "the file is missing"
    if path.stat().st_size != size:
        return f"the file has {path.stat().st_size:,} bytes and was saved with {size:,}"
    return None if sha256_of(path) == sha256 else "the file's contents are not what was saved"
