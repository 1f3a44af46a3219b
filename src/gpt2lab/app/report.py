"""The demo's report: one HTML file that needs nothing else, for a reader who has never seen a model train."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from gpt2lab.app.plots import loss_curve, rate_and_speed
from gpt2lab.app.report_page import PAGE
from gpt2lab.base.files import write_text
from gpt2lab.base.progress import format_bytes, format_duration
from gpt2lab.evaluation.compression import Compression


@dataclass(frozen=True)
class DataFacts:
    """The text, before and after cleaning and splitting. Sizes are UTF-8 bytes, shares are of occurrences."""

    documents_read: int
    bytes_read: int
    duplicate_documents: int
    repeated_paragraphs: int
    training_documents: int
    training_bytes: int
    held_out_documents: int
    held_out_bytes: int
    shared_8_grams: float
    shared_13_grams: float


@dataclass(frozen=True)
class VocabularyFacts:
    """The vocabulary and what it makes of held-out text."""

    size: int
    bytes_per_token: float
    example: list[str]
    longest: list[str]


@dataclass(frozen=True)
class Sample:
    """A continuation and the longest span in it that stands in the training text."""

    prompt: str
    temperature: float
    seed: int
    text: str
    copied_start: int
    copied_chars: int
    copied_words: int


@dataclass(frozen=True)
class DemoReport:
    """Everything the report shows; kept as report.json too."""

    recipe: dict[str, Any]
    facts: dict[str, Any]
    metrics: list[dict[str, Any]]
    data: DataFacts
    vocabulary: VocabularyFacts
    bits_per_byte: float
    held_out_loss: float
    compression: Compression
    samples: list[Sample]
    stage_seconds: dict[str, float]


def write_report(report: DemoReport, path: Path) -> None:
    """Write the page."""
    fields = {
        "headlines": _headlines(report),
        "loss_curve": loss_curve(report.metrics),
        "rate_and_speed": rate_and_speed(report.metrics),
        "loss": f"{report.held_out_loss:.2f}",
        "odds": f"{2.718281828**report.held_out_loss:,.0f}",
        "vocab_size": f"{report.vocabulary.size:,}",
        "bits": f"{report.bits_per_byte:.2f}",
        "bars": _bars(report),
        "bytes_per_token": f"{report.vocabulary.bytes_per_token:.2f}",
        "pieces": _pieces(report.vocabulary.example),
        "longest": " ".join(f"<span class=piece>{escape(word)}</span>" for word in report.vocabulary.longest),
        "samples": "".join(map(_sample, report.samples)),
        "data": _table(_data_rows(report.data)),
        "stages": _table(_stage_rows(report.stage_seconds)),
        "circumstances": _table(_circumstance_rows(report)),
    }
    page = PAGE
    for name, value in fields.items():
        page = page.replace("{{" + name + "}}", value)
    write_text(path, page)


def _headlines(report: DemoReport) -> str:
    trained = report.metrics[-1]["seconds"]
    numbers = [
        (f"{report.facts['parameters'] / 1e6:.1f}M", "numbers learned"),
        (format_duration(trained), f"of training on {escape(report.facts['device_name'])}"),
        (f"{report.bits_per_byte:.2f}", "bits per byte of text it never saw"),
    ]
    return "".join(f"<div><b>{number}</b><span>{what}</span></div>" for number, what in numbers)


def _bars(report: DemoReport) -> str:
    """Bits per byte of the model and the compressors, as bars; shorter is better."""
    rows = [
        ("uncompressed", 8.0, ""),
        ("gzip -9", report.compression.gzip, ""),
        ("xz -9e", report.compression.xz, ""),
        ("xz -9e, given the training text", report.compression.xz_after_training, ""),
        ("this model", report.bits_per_byte, " class=model"),
    ]
    longest = rows[1][1]  # 8 bits would dwarf the rest: its bar runs off the page, and says so
    return "".join(
        f"<tr{kind}><th>{escape(name)}<td><i style='width:{min(100, 100 * bits / longest):.1f}%'></i>"
        f"<td>{bits:.2f}{' →' if bits > longest else ''}"
        for name, bits, kind in rows
    )


def _pieces(pieces: list[str]) -> str:
    return "".join(f"<span class=piece>{escape(piece)}</span>" for piece in pieces)


def _sample(sample: Sample) -> str:
    end = sample.copied_start + sample.copied_chars
    before, after = sample.text[: sample.copied_start], sample.text[end:]
    copied = sample.text[sample.copied_start : end]
    prompt = f"<b>{escape(sample.prompt)}</b>" if sample.prompt else "<b class=empty>(from nothing)</b> "
    return (
        f"<figure><figcaption>temperature {sample.temperature:g} · longest copied span: "
        f"{sample.copied_chars} characters, {sample.copied_words} words · seed {sample.seed}</figcaption>"
        f"<p class=sample>{prompt}{escape(before)}<mark>{escape(copied)}</mark>{escape(after)}</p></figure>"
    )


def _table(rows: dict[str, str]) -> str:
    return "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows.items())


def _data_rows(data: DataFacts) -> dict[str, str]:
    return {
        "read": f"{data.documents_read:,} modules and topics, {format_bytes(data.bytes_read)}",
        "removed": f"{data.duplicate_documents:,} duplicate documents, "
        f"{data.repeated_paragraphs:,} repeated paragraphs, and what is code rather than English",
        "to train on": f"{data.training_documents:,} documents, {format_bytes(data.training_bytes)}",
        "held out": f"{data.held_out_documents:,} documents, {format_bytes(data.held_out_bytes)}: whole "
        "modules and topics, chosen by a hash of their names",
        "overlap left": f"{data.shared_13_grams:.1%} of the held-out runs of 13 words stand in the training "
        f"text too ({data.shared_8_grams:.1%} of those of 8 words)",
    }


def _stage_rows(seconds: dict[str, float]) -> dict[str, str]:
    total = {"in all": format_duration(sum(seconds.values()))}
    return {name: format_duration(value) for name, value in seconds.items()} | total


def _circumstance_rows(report: DemoReport) -> dict[str, str]:
    facts, model = report.facts, report.recipe["model"]
    return {
        "command": facts["command"],
        "model": f"{facts['parameters']:,} parameters: {model['n_layer']} layers, {model['n_embd']} wide, "
        f"context {model['context_length']} tokens",
        "training": f"{facts['steps']:,} steps of {report.recipe['batch_tokens']:,} tokens, "
        f"{report.recipe['optimizer']['name']}, seed {report.recipe['seed']}",
        "computed in": f"{facts['precision']}, {'compiled' if facts['compiled'] else 'not compiled'}, "
        f"{facts['threads']} threads",
        "machine": facts["device_name"],
        "versions": f"gpt2lab {facts['gpt2lab']}, Python {facts['python']}, PyTorch {facts['torch']}",
    }
