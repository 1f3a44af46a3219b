"""What downloads from the Hugging Face Hub share: where files lie, their checksums, what goes wrong."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import sha256_of
from gpt2lab.base.progress import Progress

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Kind = Literal["model", "dataset"]
RECORD_NAME = "gpt2lab.json"
ANSWER_WITHIN_S = 30.0


class Sum(TypedDict):
    """What a file that has arrived is."""

    size: int
    sha256: str


def home_of(kind: Kind, repo: str) -> Path:
    """Where the cache that all Hub programs share keeps this model or dataset."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # in case something imported the library before us
    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{repo.replace('/', '--')}"


def endpoint() -> str:
    """The Hub's address, or that of the mirror which `HF_ENDPOINT` names."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def sum_of(path: Path) -> Sum:
    """Size and SHA-256 of a file."""
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def promise_of(described: "RepoSibling") -> str:
    """A file's sum as the Hub gives it: ``"sha256:..."`` for large files, Git's ``"sha1:..."`` for small."""
    return f"sha256:{described.lfs.sha256}" if described.lfs else f"sha1:{described.blob_id}"


def require_promised(path: Path, promise: str) -> None:
    """Delete a file that is not what the Hub says it is.

    Raises:
        UserError: it was not.
    """
    kind, _, promised = promise.partition(":")
    if kind == "sha256":
        found = sha256_of(path)
    else:
        content = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if found != promised:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise UserError(
            "the file that arrived has not the checksum that the Hub gives for it; it was deleted",
            where=path.name,
            fix="Run the same command again; if it happens again, something on the way alters downloads",
        )


def bar_into(progress: Progress | None) -> Any:
    """A class of progress bars, as the Hub's library asks for, that only report to `progress`, if at all."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self.update(options.get("initial", 0))  # what an earlier, broken download left

        def update(self, n: float | None = 1) -> None:
            if progress is not None:
                progress.advance(int(n or 0))

        def update_transfer(self, n: float) -> None:
            """Compressed bytes on the wire; `update` counts the same ones as they reach the file."""

        def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None:
            """The speed of the same."""

    return Bar


def connection_error() -> type[Exception]:
    """Base class of what goes wrong on the wire: `httpx`'s, or `httpx2`'s from version 2 of the library."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


class ConnectionLostError(UserError):
    """A download broke off; trying again may help."""


@contextmanager
def hub_errors_explained(kind: Kind, repo: str) -> Iterator[None]:
    """Turn the Hub's refusals and broken connections into a `UserError`.

    Raises:
        ConnectionLostError: of them, what may be over in a moment.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        page = repo if kind == "model" else f"datasets/{repo}"
        raise UserError(
            f"{repo} is only for those who have accepted its terms",
            fix=f"Accept them at {endpoint()}/{page}, then run `hf auth login`",
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the Hub has no {kind} {repo!r}, or it is private",
            fix=f"Check the spelling; for a private {kind} run `hf auth login`; a directory goes by its path",
        ) from error
    except HfHubHTTPError as error:
        raise UserError(
            f"the Hub refused: {_first_line(error)}", where=repo, fix="Try again later"
        ) from error
    except (OSError, connection_error()) as error:
        if isinstance(error, OSError) and error.errno is not None:  # not the library's own, but the system's
            raise
        raise ConnectionLostError(
            f"the download of {repo} broke off: {_first_line(error.__cause__ or error)}",
            fix="Run the same command again; it goes on where it stopped",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
