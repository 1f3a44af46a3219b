"""What a built corpus holds and what it lost: funnel, sites, lengths, languages, samples of every reason."""

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json, read_text
from gpt2lab.corpus.funnel import FunnelRow, as_rows
from gpt2lab.corpus.parquet_files import read_batches, read_rows
from gpt2lab.corpus.pipeline import FORMAT_VERSION, MANIFEST_NAME
from gpt2lab.corpus.stage import STAGES_FOLDER
from gpt2lab.corpus.stage_files import A_PART

VERDICT_STAGES = ("duplicates", "decontaminate")
SAMPLES = 3  # of each reason
SAMPLE_CHARS = 600
_SAMPLED_FILES = 50  # of each stage: a large corpus is not read through for a few samples
_SECOND_LEVEL = {"ac", "co", "com", "edu", "gov", "net", "or", "org"}


@dataclass(frozen=True)
class Sample:
    """A text that was dropped, or the beginning of it; `chars` says how long it was."""

    id: str
    text: str
    chars: int
    detail: str


@dataclass(frozen=True)
class CorpusFacts:
    """Everything that `gpt2lab corpus inspect` shows.

    Attributes:
        manifest: what `manifest.json` holds.
        funnel: its rows.
        sites: documents that are left by site (`site_name`), most first.
        lengths: documents that are left by the power of two that their bytes reach.
        languages: documents that were dropped for their language, by that language, most first.
        samples: by step and reason (of parts of documents ``"reason (parts)"``), a few of what was dropped,
            drawn by a hash of their ids.
    """

    manifest: dict[str, Any]
    funnel: list[FunnelRow]
    sites: list[tuple[str, int]]
    lengths: dict[int, int]
    languages: list[tuple[str, int]]
    samples: dict[tuple[str, str], list[Sample]]


def gather_facts(folder: Path) -> CorpusFacts:
    """Look through a corpus's files.

    Raises:
        UserError: `folder` holds no finished corpus.
    """
    if not (folder / MANIFEST_NAME).exists() or not (folder / STAGES_FOLDER).is_dir():
        raise UserError(
            "there is no finished corpus here",
            where=folder,
            fix="Name a folder that `gpt2lab corpus build` filled, or run that command to its end",
        )
    manifest = read_json(folder / MANIFEST_NAME)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"corpus format {manifest.get('format_version')}, and this program reads format {FORMAT_VERSION}",
            where=folder / MANIFEST_NAME,
            fix="Use the version of gpt2lab that built it, or build it again",
        )
    sites: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    funnel = as_rows(manifest["funnel"])
    verdicts = [folder / STAGES_FOLDER / row.step for row in funnel if row.step in VERDICT_STAGES]
    for batch in _left_over(folder / STAGES_FOLDER, verdicts):
        sites.update(filter(None, map(site_name, batch.column("url").to_pylist())))
        sizes = pc.binary_length(batch.column("text")).to_numpy(zero_copy_only=False)
        powers, counts = np.unique(np.frexp(sizes)[1] - 1, return_counts=True)
        lengths.update(dict(zip(powers.tolist(), counts.tolist(), strict=True)))
    return CorpusFacts(
        manifest,
        funnel,
        sites.most_common(),
        dict(sorted(lengths.items())),
        _languages(folder / STAGES_FOLDER),
        _samples(folder / STAGES_FOLDER, verdicts),
    )


def _left_over(stages: Path, verdict_stages: list[Path]) -> Iterator[pa.RecordBatch]:
    """The documents that are left, `url` and `text`."""
    for file in _documents_files(stages / "filter"):
        verdicts = [stage / f"{file.stem}.dropped.parquet" for stage in verdict_stages]
        gone = np.array([row for verdict in verdicts for (row,) in read_rows(verdict, ["row"])], np.int64)
        first = 0
        for batch in read_batches(file, ["url", "text"]):
            stays = ~np.isin(np.arange(first, first + len(batch)), gone)
            first += len(batch)
            yield batch.filter(pa.array(stays))


def _documents_files(stage: Path) -> list[Path]:
    return sorted(file for file in stage.glob("*.parquet") if not file.name.endswith(".dropped.parquet"))


def _dropped_files(stages: Path, verdict_stages: list[Path]) -> Iterator[list[Path]]:
    """The files of dropped documents, stage by stage."""
    for stage in (stages / "read", stages / "filter", *verdict_stages):
        yield sorted(stage.glob("*.dropped.parquet"))


def _languages(stages: Path) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for file in sorted((stages / "filter").glob("*.dropped.parquet")):
        for step, language in read_rows(file, ["stage", "detail"]):
            if step == "language":
                counts[language] += 1
    return counts.most_common()


def _samples(stages: Path, verdict_stages: list[Path]) -> dict[tuple[str, str], list[Sample]]:
    best: dict[tuple[str, str], list[tuple[int, int, Sample]]] = {}
    order = itertools.count()
    columns = ["id", "text", "stage", "reason", "detail"]
    for files in _dropped_files(stages, verdict_stages):
        for file in files[:_SAMPLED_FILES]:
            for identity, text, step, reason, detail in read_rows(file, columns):
                # A heap whose least is what goes next: the highest hash, so hashes are negated.
                digest = hashlib.blake2b(identity.encode("utf-8", "replace"), digest_size=8).digest()
                name = f"{reason} (parts)" if detail == A_PART else reason
                heap = best.setdefault((step, name), [])
                rank = -int.from_bytes(digest, "big")
                known = any(rank == other for other, _, _ in heap)  # one page, again and again
                if not known and (len(heap) < SAMPLES or rank > heap[0][0]):
                    sample = Sample(identity, text[:SAMPLE_CHARS], len(text), detail)
                    push = heapq.heappush if len(heap) < SAMPLES else heapq.heappushpop
                    push(heap, (rank, next(order), sample))
    return {key: [sample for _, _, sample in sorted(heap, reverse=True)] for key, heap in best.items()}


def site_name(url: str) -> str:
    """A site's name without what is round it, as in OpenAI's list: ``bbc`` of ``https://news.bbc.co.uk/1``."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    labels = host.rstrip(".").split(".")
    if len(labels) < 2 or labels[-1].isdigit() or ":" in host:
        return host
    is_second_level = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL
    return labels[-3] if is_second_level else labels[-2]


def read_site_list(path: Path) -> list[tuple[str, int]]:
    """A published list of sites, a line each: how many links, and the site's name; most first.

    OpenAI's of WebText's 1,000 most frequent is https://github.com/openai/gpt-2/blob/master/domains.txt.

    Raises:
        UserError: no such file, or a line of another form.
    """
    sites = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        count, _, name = line.strip().partition(" ")
        if not count.isdecimal():
            raise UserError(
                f"this line is not a number and a name: {line[:40]!r}",
                where=f"{path}:{number}",
                fix="Every line must be like `1542261 google`",
            )
        if name:  # the list has one count of links without a site
            sites.append((name.strip(), int(count)))
    return sites
