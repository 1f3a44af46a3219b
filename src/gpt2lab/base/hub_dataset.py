"""A dataset on the Hugging Face Hub, of which each file is brought here when it is first asked for.

What the Hub said at first use (revision, files, their sizes and sums, the licence) is written down in its
cache; from then on that revision is used, and a file that is here is used without a word to the network. A
file is compared with its sum whenever it is asked for, so what a kill left behind is never taken for whole.
"""

import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from gpt2lab.base.errors import UserError, speaks
from gpt2lab.base.files import disk_errors_explained, read_json, require_free_space, write_json
from gpt2lab.base.hub_wire import (
    ANSWER_WITHIN_S,
    RECORD_NAME,
    ConnectionLostError,
    bar_into,
    connection_error,
    endpoint,
    home_of,
    hub_errors_explained,
    promise_of,
    require_promised,
)
from gpt2lab.base.progress import Progress, format_bytes

_LICENCE_TAG = "license:"


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub describes it: bytes, and its sum as `hub_wire.promise_of` spells it."""

    size: int
    sum: str


class HubDataset:
    """Files of one dataset; use `HubDataset.open`.

    Attributes:
        repo: its id: ``"someone/texts"``.
        revision: the commit that is used.
        licence: what its card says, or "not stated".
        files: by name, in the order of their names.
    """

    def __init__(self, repo: str, revision: str, licence: str, files: dict[str, HubFile]) -> None:
        self.repo, self.revision, self.licence = repo, revision, licence
        self.files = dict(sorted(files.items()))
        self.folder = home_of("dataset", repo) / "snapshots" / revision

    @classmethod
    def open(cls, repo: str) -> Self:
        """Look up what there is; nothing but the list of files is downloaded.

        Raises:
            UserError: the Hub has no such dataset, or cannot be reached and was not asked before.
        """
        record = home_of("dataset", repo) / RECORD_NAME
        if not record.exists():
            described = cls._described_by_hub(repo)
            write_json(record, described)
        else:
            described = read_json(record)
        files = {name: HubFile(**facts) for name, facts in described["files"].items()}
        return cls(repo, described["revision"], described["licence"], files)

    @staticmethod
    def _described_by_hub(repo: str) -> dict[str, Any]:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        api = HfApi(library_name="gpt2lab")
        with hub_errors_explained("dataset", repo):
            try:
                info = api.dataset_info(repo, files_metadata=True, timeout=ANSWER_WITHIN_S)
            except HfHubHTTPError:
                raise
            except (OfflineModeIsEnabled, connection_error()) as error:
                raise UserError(
                    f"{repo} is not on this machine, and {endpoint()} cannot be reached",
                    where="data.path",
                    fix="Go online and run the same command, or give a folder: --data FOLDER",
                ) from error
        tags = [tag.removeprefix(_LICENCE_TAG) for tag in info.tags or () if tag.startswith(_LICENCE_TAG)]
        files = {file.rfilename: HubFile(file.size or 0, promise_of(file)) for file in info.siblings or ()}
        return {
            "revision": info.sha,
            "licence": ", ".join(tags) or "not stated",
            "files": {name: asdict(file) for name, file in files.items()},
        }

    def is_here(self, name: str) -> bool:
        """Whether a file has been downloaded."""
        return (self.folder / name).exists()

    def total(self, names: Iterable[str]) -> int:
        """Bytes of some files."""
        return sum(self.files[name].size for name in names)

    def announce(self, names: Sequence[str], when: str) -> None:
        """Say what is going to be fetched, and make sure that it fits; nothing where all of it is here.

        Args:
            names: files that are going to be asked for.
            when: "now", "as training goes".

        Raises:
            UserError: the disk has no room for those that are not here yet.
        """
        absent = [name for name in names if not self.is_here(name)]
        if not absent:
            return
        n_bytes = self.total(absent)
        if speaks():
            print(
                f"downloading {when} from {endpoint()}/datasets/{self.repo} to {self.folder.parent.parent}: "
                f"{len(absent):,} files, {format_bytes(n_bytes)}, licence {self.licence}",
                file=sys.stderr,
            )
        require_free_space(self.folder, n_bytes, self.repo)

    def fetch(self, name: str, *, quiet: bool = False) -> Path:
        """A file, downloaded if it is not here yet; a download that broke off before goes on.

        Args:
            name: one of `files`.
            quiet: show no progress.

        Raises:
            ConnectionLostError: the download broke off, or could not begin.
            UserError: the disk has no room, or the file is not what the Hub said.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

        path, size = self.folder / name, self.files[name].size
        if not path.exists():
            require_free_space(self.folder, size, f"{self.repo}, {name}")
            api = HfApi(library_name="gpt2lab")
            progress = None if quiet else Progress(size, f"downloading {path.name}", "bytes")
            with hub_errors_explained("dataset", self.repo), disk_errors_explained(self.folder):
                try:
                    with progress or nullcontext():
                        api.hf_hub_download(
                            self.repo,
                            name,
                            repo_type="dataset",
                            revision=self.revision,
                            tqdm_class=bar_into(progress),
                        )
                except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
                    raise ConnectionLostError(
                        f"{name} is not on this machine, and {endpoint()} cannot be reached",
                        where=self.repo,
                        fix="Go online and run the same command again; the run goes on where it was",
                    ) from error
        require_promised(path, self.files[name].sum)
        return path
