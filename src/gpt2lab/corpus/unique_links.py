"""Each link once, in little memory however long the list: links are first sorted into files by a hash.

Links then come out in the order of their hashes' first bits, which also mixes the sites: a crawl that goes
through a list site by site would wait for one server after another.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from gpt2lab.base.files import TEMPORARY_PREFIX, disk_errors_explained
from gpt2lab.corpus.links import DroppedLink, Link

_PARTITIONS = 64  # of 45 million links (the paper's) one takes some 70 MB in memory


def link_key(url: str) -> bytes:
    """128 bits that stand for a link; two links share them only if someone worked very hard for it."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class UniqueLinks:
    """The links of a list, each once; of those that stand there several times the first.

    Args:
        links: read once, by `__enter__`.
        folder: an existing one on a disk with room for the list; what is written there is deleted again.

    Attributes:
        total: how many links there are, those that stand there several times counted as often.
        dropped: how many entries of the list are no links, by reason.

    Iterating gives the links, and for each repetition of one a `DroppedLink` with the reason ``duplicate``.
    """

    def __init__(self, links: Iterable[Link | DroppedLink], folder: Path) -> None:
        self.total = 0
        self.dropped: Counter[str] = Counter()
        self._links = links
        self._folder = folder / f"{TEMPORARY_PREFIX}links"
        self._files = [self._folder / f"{number:02d}.jsonl" for number in range(_PARTITIONS)]

    def __enter__(self) -> Self:
        with ExitStack() as opened, disk_errors_explained(self._folder):
            self._folder.mkdir(exist_ok=True)
            files = [opened.enter_context(file.open("w", encoding="utf-8")) for file in self._files]
            for link in self._links:
                if isinstance(link, DroppedLink):
                    self.dropped[link.reason] += 1
                else:
                    self.total += 1
                    row = json.dumps([link.url, link.score, link.date])
                    files[link_key(link.url)[0] * _PARTITIONS >> 8].write(row + "\n")
        return self

    def __iter__(self) -> Iterator[Link | DroppedLink]:
        for file in self._files:
            seen = set()
            with file.open(encoding="utf-8") as rows:
                for row in rows:
                    link = Link(*json.loads(row))
                    key = link_key(link.url)
                    if key in seen:
                        yield DroppedLink(link.url, "duplicate")
                    else:
                        seen.add(key)
                        yield link

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
