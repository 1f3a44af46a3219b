"""Files from the Hugging Face Hub: announced, checked, and remembered so that the next time works offline.

They lie in the cache that all Hub programs share (`HF_HOME` moves it), so what `transformers` downloaded is
not downloaded again. On first use the revision and each file's size and SHA-256 are written down there, in
`gpt2lab.json`; from then on that revision is used and those sums are checked, with no word to the network.
The Hub itself says what a file's sum must be: SHA-256 for large files, Git's SHA-1 for small ones.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import disk_errors_explained, read_json, require_free_space, write_json
from gpt2lab.base.hub_wire import (
    ANSWER_WITHIN_S,
    RECORD_NAME,
    Sum,
    bar_into,
    connection_error,
    endpoint,
    home_of,
    hub_errors_explained,
    promise_of,
    require_promised,
    sum_of,
)
from gpt2lab.base.progress import Progress, format_bytes

Choose = Callable[[Sequence[str]], Sequence[str]]
"""Given the names of all files of a model, those that are wanted"""


class _Record(TypedDict):
    """What was downloaded first, and is from then on expected."""

    revision: str
    files: dict[str, Sum]


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
    home = home_of("model", repo)
    record: _Record | None = read_json(home / RECORD_NAME) if (home / RECORD_NAME).exists() else None
    wanted = _recorded(choose, record)
    if record is None or not wanted or not all((_folder(home, record) / name).exists() for name in wanted):
        revision = record["revision"] if record else None
        fetched = _download(repo, choose, home, revision) or _found_in_cache(home, choose, revision)
        if fetched is None:
            raise UserError(
                f"{repo} is not on this machine, and {endpoint()} cannot be reached",
                fix="Go online once and run the same command; or download the model on another machine, copy "
                "its directory here, and give that directory instead of the name",
            )
        wanted = list(fetched["files"])
        known = record["files"] if record else {}
        record = {"revision": fetched["revision"], "files": {**fetched["files"], **known}}
        write_json(home / RECORD_NAME, record)
    folder = _folder(home, record)
    for name in wanted:
        if sum_of(folder / name) != record["files"][name]:
            raise UserError(
                "the file is not what was first downloaded",
                where=folder / name,
                fix=f"Delete {home} and run the same command again, which downloads it anew",
            )
    return folder


def _recorded(choose: Choose, record: _Record | None) -> list[str]:
    """The wanted files among those downloaded before; empty if what is wanted was never downloaded."""
    try:
        return list(choose(list(record["files"]))) if record else []
    except UserError:  # a vocabulary was fetched then, and the weights are wanted now
        return []


def _folder(home: Path, record: _Record) -> Path:
    return home / "snapshots" / record["revision"]


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
    return {"revision": revision, "files": {name: sum_of(folder / name) for name in wanted}}


def _download(repo: str, choose: Choose, home: Path, revision: str | None) -> _Record | None:
    """Bring the wanted files here and check them; None if there is no network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(library_name="gpt2lab")
    with hub_errors_explained("model", repo):
        try:
            info = api.model_info(repo, revision=revision, files_metadata=True, timeout=ANSWER_WITHIN_S)
        except HfHubHTTPError:  # the Hub was there and said no
            raise
        except (OfflineModeIsEnabled, connection_error()):
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
                f"downloading {repo} from {endpoint()} to {home}: "
                f"{len(absent)} files, {format_bytes(n_bytes)}",
                file=sys.stderr,
            )
            require_free_space(home, n_bytes, repo)
        with Progress(n_bytes, "downloading", "bytes") as progress, disk_errors_explained(home):
            bar = bar_into(progress)
            for name in wanted:
                path = Path(api.hf_hub_download(repo, name, revision=info.sha, tqdm_class=bar))
                require_promised(path, promise_of(described[name]))
                record["files"][name] = sum_of(path)
    return record
