"""Files from the Hugging Face Hub: announced, checked, and remembered so that the next time works offline.

They lie in the cache that all Hub programs share (`HF_HOME` moves it), so what `transformers` downloaded is
not downloaded again. On first use the revision and each file's size and SHA-256 are written down there, in
`gpt2lab.json`; from then on that revision is used and those sums are checked, with no word to the network.
The Hub itself says what a file's sum must be: SHA-256 for large files, Git's SHA-1 for small ones.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import disk_errors_explained, read_json, require_free_space, sha256_of, write_json
from gpt2lab.base.progress import Progress, format_bytes

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Choose = Callable[[Sequence[str]], Sequence[str]]
"""Given the names of all files of a model, those that are wanted"""

_RECORD_NAME = "gpt2lab.json"
_ANSWER_WITHIN_S = 30.0


class _Sum(TypedDict):
    size: int
    sha256: str


class _Record(TypedDict):
    """What was downloaded first, and is from then on expected."""

    revision: str
    files: dict[str, _Sum]


def fetch_from_hub(repo: str, choose: Choose) -> Path:
    """A folder with the wanted files of a model on the Hub, downloaded where they are not here yet.

    Args:
        repo: the model's id: ``"openai-community/gpt2"``.
        choose: picks the wanted files; called with the names of all, or of those fetched before, and raises
            `UserError` where those are not enough.

    Raises:
        UserError: the Hub has no such model or cannot be reached, the disk has no room, or a file has not the
            checksum it should have.
    """
    home = _home(repo)
    record: _Record | None = read_json(home / _RECORD_NAME) if (home / _RECORD_NAME).exists() else None
    wanted = _recorded(choose, record)
    if record is None or not wanted or not all((_folder(home, record) / name).exists() for name in wanted):
        revision = record["revision"] if record else None
        fetched = _download(repo, choose, home, revision) or _found_in_cache(home, choose, revision)
        if fetched is None:
            raise UserError(
                f"{repo} is not on this machine, and {_endpoint()} cannot be reached",
                fix="Go online once and run the same command; or download the model on another machine, copy "
                "its directory here, and give that directory instead of the name",
            )
        wanted = list(fetched["files"])
        known = record["files"] if record else {}
        record = {"revision": fetched["revision"], "files": {**fetched["files"], **known}}
        write_json(home / _RECORD_NAME, record)
    folder = _folder(home, record)
    for name in wanted:
        if _sum(folder / name) != record["files"][name]:
            raise UserError(
                "the file is not what was first downloaded",
                where=folder / name,
                fix=f"Delete {home} and run the same command again, which downloads it anew",
            )
    return folder


def _home(repo: str) -> Path:
    """Where the Hub's cache keeps this model."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # in case something imported the library before us
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _recorded(choose: Choose, record: _Record | None) -> list[str]:
    """The wanted files among those downloaded before; empty if what is wanted was never downloaded."""
    try:
        return list(choose(list(record["files"]))) if record else []
    except UserError:  # a vocabulary was fetched then, and the weights are wanted now
        return []


def _folder(home: Path, record: _Record) -> Path:
    return home / "snapshots" / record["revision"]


def _sum(path: Path) -> _Sum:
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def _found_in_cache(home: Path, choose: Choose, revision: str | None) -> _Record | None:
    """What another program has downloaded: this revision or its newest, if all that is wanted is there."""
    branch = home / "refs" / "main"
    if revision is None:
        if not branch.exists():
            return None
        revision = branch.read_text().strip()
    folder = home / "snapshots" / revision
    try:
        wanted = choose([path.relative_to(folder).as_posix() for path in folder.rglob("*")])
    except UserError:  # only some of its files were ever asked for
        return None
    return {"revision": revision, "files": {name: _sum(folder / name) for name in wanted}}


def _download(repo: str, choose: Choose, home: Path, revision: str | None) -> _Record | None:
    """Bring the wanted files here and check them; None if there is no network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(library_name="gpt2lab")
    with _hub_errors_explained(repo):
        try:
            info = api.model_info(repo, revision=revision, files_metadata=True, timeout=_ANSWER_WITHIN_S)
        except HfHubHTTPError:  # the Hub was there and said no
            raise
        except (OfflineModeIsEnabled, _connection_error()):
            return None
        assert info.sha is not None
        assert info.siblings is not None
        described = {file.rfilename: file for file in info.siblings}
        record: _Record = {"revision": info.sha, "files": {}}
        wanted = choose(sorted(described))
        absent = [name for name in wanted if not (_folder(home, record) / name).exists()]
        n_bytes = sum(described[name].size or 0 for name in absent)
        if absent:
            print(
                f"downloading {repo} from {_endpoint()} to {home}: "
                f"{len(absent)} files, {format_bytes(n_bytes)}",
                file=sys.stderr,
            )
            require_free_space(home, n_bytes, repo)
        with Progress(n_bytes, "downloading", "bytes") as progress, disk_errors_explained(home):
            bar = _bar_into(progress)
            for name in wanted:
                path = Path(api.hf_hub_download(repo, name, revision=info.sha, tqdm_class=bar))
                record["files"][name] = _checked(path, described[name])
    return record


def _checked(path: Path, described: "RepoSibling") -> _Sum:
    """The file's sum, once it is known to be what the Hub says; otherwise the file is deleted."""
    found = _sum(path)
    if described.lfs is not None:
        whole = found["sha256"] == described.lfs.sha256
    else:
        content = path.read_bytes()
        whole = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == described.blob_id
    if not whole:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise UserError(
            "the file that arrived has not the checksum that the Hub gives for it; it was deleted",
            where=path.name,
            fix="Run the same command again; if it happens again, something on the way alters downloads",
        )
    return found


def _bar_into(progress: Progress) -> Any:
    """A class of progress bars, as the Hub's library asks for, that only report to `progress`."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            progress.advance(options.get("initial", 0))  # what an earlier, broken download left

        def update(self, n: float | None = 1) -> None:
            progress.advance(int(n or 0))

        def update_transfer(self, n: float) -> None:
            """Compressed bytes on the wire; `update` counts the same ones as they reach the file."""

        def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None:
            """The speed of the same."""

    return Bar


def _connection_error() -> type[Exception]:
    """Base class of what goes wrong on the wire: `httpx`'s, or `httpx2`'s from version 2 of the library."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


@contextmanager
def _hub_errors_explained(repo: str) -> Iterator[None]:
    """Turn the Hub's refusals and broken connections into a `UserError`."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"{repo} is only for those who have accepted its terms",
            fix=f"Accept them at {_endpoint()}/{repo}, then run `hf auth login`",
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the Hub has no model {repo!r}, or it is private",
            fix="Check the spelling; for a private model run `hf auth login`, for a directory give its path",
        ) from error
    except HfHubHTTPError as error:
        raise UserError(
            f"the Hub refused: {_first_line(error)}", where=repo, fix="Try again later"
        ) from error
    except (OSError, _connection_error()) as error:
        if isinstance(error, OSError) and error.errno is not None:  # not the library's own, but the system's
            raise
        raise UserError(
            f"the download of {repo} broke off: {_first_line(error.__cause__ or error)}",
            fix="Run the same command again; it goes on where it stopped",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
