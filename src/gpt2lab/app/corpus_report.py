"""The page about a corpus: one HTML file that needs nothing else. Its texts are strangers' and escaped."""

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import tomli_w

from gpt2lab.app.corpus_page import PAGE
from gpt2lab.app.page_style import STYLE
from gpt2lab.app.plots import CSS, bars, shown
from gpt2lab.base.files import write_text
from gpt2lab.base.progress import format_bytes
from gpt2lab.corpus.funnel import FunnelRow
from gpt2lab.corpus.statistics import SAMPLE_CHARS, CorpusFacts, Sample

_MOST_SITES = 25
_MOST_LANGUAGES = 15
_WEBTEXT_PAGES = (
    45_000_000  # links in WebText (Radford et al. 2019, section 2.1), of which OpenAI counted sites
)


def write_corpus_report(
    facts: CorpusFacts, path: Path, *, title: str, published_sites: Sequence[tuple[str, int]] = ()
) -> None:
    """Write the page.

    Args:
        facts: what to show.
        path: where to.
        title: what the corpus is called.
        published_sites: a list to show the corpus's sites beside (`corpus.statistics.read_site_list`).

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    manifest = facts.manifest
    recipe = {key: value for key, value in manifest["recipe"].items() if key != "summary"}
    fields = {
        "css": STYLE + CSS,
        "title": escape(title),
        "byline": escape(f"{manifest['created_by']} · {_count(len(manifest['sources']), 'source file')}"),
        "headlines": _headlines(facts),
        "summary": escape(manifest["recipe"].get("summary", "").strip()),
        "funnel": _funnel(facts.funnel),
        "near": _near(manifest["near_duplicates"]),
        "samples": _samples(facts),
        "lengths": bars([(_size(power), count, f"{count:,}") for power, count in facts.lengths.items()]),
        "languages": _languages(facts.languages),
        "sites": _sites(facts.sites, published_sites),
        "tokens": _tokens(facts),
        "recipe": escape(tomli_w.dumps(recipe)),
        "circumstances": _table([("vocabulary", manifest["tokenizer_fingerprint"])]),
    }
    # In one pass, so that a sample which holds {{recipe}} stays as it is.
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda found: fields[found[1]], PAGE))


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}s" if number != 1 else f"1 {what}"


def _headlines(facts: CorpusFacts) -> str:
    first, last = facts.funnel[0], facts.funnel[-1]
    tokens = sum(split["tokens"] for split in facts.manifest["splits"].values())
    numbers = [
        (f"{last.documents:,}", f"documents, {last.documents / max(first.documents, 1):.1%} of those read"),
        (format_bytes(last.bytes), "of text"),
        (_short(tokens), "tokens"),
    ]
    return "".join(
        f"<div><b>{escape(number)}</b><span>{escape(what)}</span></div>" for number, what in numbers
    )


def _short(number: int) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,}"


def _funnel(rows: Sequence[FunnelRow]) -> str:
    first = max(rows[0].documents, 1)
    pieces = []
    for row in rows:
        reasons = [
            f"<span>−<b>{documents:,}</b> {escape(reason)}</span>"
            for reason, (documents, _) in row.dropped.items()
        ]
        reasons += [
            f"<span>{parts:,} parts: {escape(reason)}</span>" for reason, (parts, _) in row.parts.items()
        ]
        name, share = escape(row.step.replace("_", " ")), 100 * row.documents / first
        left = f"{row.documents:,} · {format_bytes(row.bytes)}"
        pieces.append(f"<div style='width:{share:.1f}%'><b>{name}</b>{left}</div>")
        if reasons:
            pieces.append(f"<p>{' '.join(reasons)}</p>")
    return f"<section class='funnel'>{''.join(pieces)}</section>"


def _near(near: dict[str, object]) -> str:
    if not near or not near["groups"]:
        return ""
    return (
        f"<p class='note'>Near-duplicates form {near['groups']:,} groups. {near['chained']:,} of the "
        f"{near['duplicates']:,} that went are less like the one that stayed than the threshold: others "
        f"between them connect the two. The least similarity is {near['least_similarity']:.2f}.</p>"
    )


def _samples(facts: CorpusFacts) -> str:
    if not facts.samples:
        return "<p>Nothing.</p>"
    counts: dict[tuple[str, str], int] = {}
    for row in facts.funnel:
        counts |= {(row.step, reason): number for reason, (number, _) in row.dropped.items()}
        counts |= {(row.step, f"{reason} (parts)"): number for reason, (number, _) in row.parts.items()}
    order = {row.step: index for index, row in enumerate(facts.funnel)}
    keys = sorted(facts.samples, key=lambda key: (order.get(key[0], 99), -counts.get(key, 0), key))
    sections = []
    for step, own in groupby(keys, key=lambda key: key[0]):
        sections.append(f"<h3>{escape(step.replace('_', ' '))}</h3>")
        for key in own:
            sections.append(f"<p class='note'><b>{escape(key[1])}</b> · {counts[key]:,}</p>")
            sections.append(f"<div class='cards'>{''.join(map(_sample, facts.samples[key]))}</div>")
    return "".join(sections)


def _sample(sample: Sample) -> str:
    more = f" … ({sample.chars:,} characters)" if sample.chars > SAMPLE_CHARS else ""
    text = (
        f"<p class='sample'>{shown(sample.text)}<span class='quiet'>{more}</span></p>" if sample.text else ""
    )
    detail = f"<figcaption>{shown(sample.detail)}</figcaption>" if sample.detail else ""
    return f"<figure><figcaption><b>{shown(sample.id)}</b></figcaption>{text}{detail}</figure>"


def _languages(languages: Sequence[tuple[str, int]]) -> str:
    if not languages:
        return ""
    note = "By ISO 639 code. zxx is no language; en has English letters and hardly any English words."
    rows = [(language or "?", count, f"{count:,}") for language, count in languages[:_MOST_LANGUAGES]]
    return f"<h2>What was not English</h2>{bars(rows)}<p class='note'>{note}</p>"


def _sites(sites: Sequence[tuple[str, int]], published: Sequence[tuple[str, int]]) -> str:
    if not sites:
        return ""
    total = sum(count for _, count in sites)
    places = {name: (rank, count) for rank, (name, count) in enumerate(published, 1)}
    head = "<th class='name'>site</th><th>documents</th><th>share</th>"
    if published:
        head += "<th>WebText’s rank</th><th>its share</th>"
    rows = []
    for name, count in sites[:_MOST_SITES]:
        cells = (
            f"<th scope='row' class='name'>{shown(name)}</th><td>{count:,}</td><td>{count / total:.2%}</td>"
        )
        if published:
            rank, links = places.get(name, (0, 0))
            cells += (
                f"<td>{rank}</td><td>{links / _WEBTEXT_PAGES:.2%}</td>" if rank else "<td>–</td><td>–</td>"
            )
        rows.append(f"<tr>{cells}</tr>")
    note = f"The {min(len(sites), _MOST_SITES)} largest of {len(sites):,} sites."
    if published:
        shared = sum(name in places for name, _ in sites[: len(published)])
        note += (
            f" Beside them OpenAI’s list of WebText’s {len(published):,} most frequent: {shared:,} of those"
            f" are among the {min(len(published), len(sites)):,} largest here. Its shares are of 45 million"
            " links."
        )
    return (
        f"<h2>Where it is from</h2><table class='sites'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table><p class='note'>{note}</p>"
    )


def _size(power: int) -> str:
    return f"{format_bytes(2**power)} – {format_bytes(2 ** (power + 1))}"


def _tokens(facts: CorpusFacts) -> str:
    rows = []
    for split, numbers in facts.manifest["splits"].items():
        shards = sum(shard["split"] == split for shard in facts.manifest["shards"])
        per_token = numbers["bytes"] / max(numbers["tokens"], 1)
        rows.append(
            (
                {"train": "to train on", "val": "held out"}[split],
                f"{numbers['documents']:,} documents, {numbers['tokens']:,} tokens in {shards:,} "
                f"shard{'s' if shards > 1 else ''}, {per_token:.2f} bytes a token",
            )
        )
    return _table(rows)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows
    )
