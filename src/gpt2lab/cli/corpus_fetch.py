"""`gpt2lab corpus fetch`: the pages behind a list of links, as WARC files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from gpt2lab.base.errors import UserError

if TYPE_CHECKING:
    from gpt2lab.corpus.fetch import FetchReport

_DESCRIPTION = """Fetch the pages behind links, politely, into WARC files.

The links: dumps of Reddit submissions (NDJSON), or text with one address a line; plain, or packed with gzip,
bzip2, xz or zstd. robots.txt is obeyed. A further run of the same command goes on where the
last one stopped.

examples:
  gpt2lab corpus fetch RS_2016-*.zst --out pages --contact you@example.com
  gpt2lab corpus fetch links.txt --out pages --delay 2 --contact https://example.com/about-our-crawl
  gpt2lab corpus build webtext pages --out corpora/web"""


def fetch(
    links: Annotated[Positional[tuple[str, ...]], arg(metavar="LINKS ...")],
    out: Annotated[Path, arg(metavar="FOLDER")],
    contact: str = "",
    min_score: int = 3,
    before: Annotated[str, arg(metavar="DATE")] = "",
    delay: float = 1.0,
    concurrency: int = 64,
    deadline: float = 60.0,
    max_bytes: int = 10_000_000,
    retries: int = 2,
    allow_private: FlagCreatePairsOff[bool] = False,
) -> None:
    """Fetch the pages behind links.

    Args:
        links: files of links, or URLs of such files
        out: folder for the pages, pages-00000.warc.gz and so on
        contact: who you are, a mailbox or an address, for the owners of the sites
        min_score: least karma of a submission, the paper took 3
        before: only what was submitted before this day, 2018-01-01 for the paper's
        delay: seconds between two questions to one site, more where its robots.txt says so
        concurrency: questions at a time, to different sites
        deadline: seconds for one question
        max_bytes: of a page, larger ones are dropped
        retries: of what fails for now
        allow_private: also ask this machine and its network; a list of links may mean harm
    """
    from gpt2lab.base.extras import import_extra
    from gpt2lab.corpus.fetch import FetchOptions
    from gpt2lab.corpus.fetch import fetch as fetch_links
    from gpt2lab.corpus.open_files import open_file
    from gpt2lab.corpus.reddit import read_links

    if not links:
        raise UserError("no links are named", where="LINKS", fix="Name files with links in them")
    if before and not _is_date(before):
        raise UserError(f"{before!r} is no day", where="--before", fix="Write it like 2018-01-01")
    for package in ("ada_url", "aiohttp", "protego", "fastwarc"):
        import_extra(package, "corpus")
    options = FetchOptions(
        contact=contact,
        delay_s=delay,
        concurrency=concurrency,
        deadline_s=deadline,
        max_bytes=max_bytes,
        retries=retries,
        allow_private=allow_private,
    )
    for source in links:  # a misspelt name is told at once, not after an hour's reading of the others
        with open_file(source):
            pass
    every = (
        link
        for source in links
        for link in read_links(source, min_score, before, allow_private=allow_private)
    )
    print(_summary(fetch_links(every, out, options), out))


def main(arguments: list[str]) -> int:
    """Run `gpt2lab corpus fetch`; returns the exit code."""
    tyro.cli(fetch, args=arguments, prog="gpt2lab corpus fetch", description=_DESCRIPTION)
    return 0


def _is_date(text: str) -> bool:
    from datetime import date

    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _summary(report: "FetchReport", out: Path) -> str:
    """The pages, and what became of the other links, the commonest reason first."""
    from gpt2lab.base.progress import format_bytes, format_duration

    lines = [
        f"{out}: {report.pages:,} pages, {format_bytes(report.page_bytes)}, "
        f"in {format_duration(report.seconds)}"
    ]
    if report.done_before:
        lines.append(f"{report.done_before:,} links were done before")
    width = max(map(len, report.dropped), default=0)
    lines += [f"  {reason:<{width}}  {count:>12,}" for reason, count in report.dropped.most_common()]
    return "\n".join(lines)
