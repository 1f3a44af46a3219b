"""The demo's report: one HTML file that needs nothing else, for a reader who has never seen a model train."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from gpt2lab.app.page_style import STYLE
from gpt2lab.app.plots import CSS, bars, health, loss_curve, pieces, rate_and_speed, shown, spelled
from gpt2lab.app.report_page import PAGE
from gpt2lab.base.files import write_text
from gpt2lab.base.progress import format_bytes, format_duration
from gpt2lab.evaluation.compression import Compression

_GPT2_SMALLEST, _GPT2_BYTES = 124_439_808, 40e9  # Radford et al. 2019: WebText is 40 GB


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
    """The vocabulary and what it makes of held-out text: a sentence in pieces, and the longest pieces."""

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
    """Everything the report shows; kept as report.json too.

    Args:
        recipe, facts, metrics: what the run's recipe.toml, run.json and metrics.jsonl hold.
        bits_per_byte, held_out_loss: of the model on all held-out text; the loss in nats per token.
        compression: of the same text.
        samples: those of one prompt stand together.
        stage_seconds: how long each stage took, in order.
        written: local date and time.
    """

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
    written: str = field(default_factory=lambda: f"{datetime.now():%Y-%m-%d %H:%M}")


def write_report(report: DemoReport, path: Path) -> None:
    """Write the page.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    size, own_bits, compression = report.vocabulary.size, report.bits_per_byte, report.compression
    marks = {
        "gzip -9": compression.gzip,
        "xz -9e": compression.xz,
        "xz -9e with the training text": compression.xz_after_training,
    }
    fields = {
        "css": STYLE + CSS,
        "written": escape(report.written),
        "machine": _machine(report),
        "headlines": _headlines(report),
        "times_smaller": _about(_GPT2_SMALLEST / report.facts["parameters"]),
        "times_less": _about(_GPT2_BYTES / report.data.training_bytes),
        "loss_curve": loss_curve(report.metrics, {name: marks[name] for name in ("gzip -9", "xz -9e")}),
        "rate_and_speed": rate_and_speed(report.metrics),
        "health": _health(report.metrics),
        "skipped": _skipped(report.metrics),
        "loss": f"{report.held_out_loss:.2f}",
        "first_loss": f"{math.log(size):.2f}",
        "odds": f"{math.exp(report.held_out_loss):,.0f}",
        "vocab_size": f"{size:,}",
        "bits": f"{own_bits:.2f}",
        "bits_bars": bars(
            [(name, bits, f"{bits:.2f}") for name, bits in (marks | {"this model": own_bits}).items()],
            highlight="this model",
        ),
        "verdict": _verdict(marks, own_bits),
        "bytes_per_token": f"{report.vocabulary.bytes_per_token:.2f}",
        "pieces": pieces(report.vocabulary.example),
        "longest": " ".join(pieces([spelled(piece)]) for piece in report.vocabulary.longest),
        "samples": _samples(report.samples),
        "data": _table(_data_rows(report.data)),
        "stages": bars([(name, value, _seconds(value)) for name, value in report.stage_seconds.items()]),
        "command": escape(report.facts["command"]),
        "steps": f"{report.facts['steps']}",
        "circumstances": _table(_circumstance_rows(report)),
    }
    # In one pass, so that a sample which holds {{data}} stays as it is.
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda found: fields[found[1]], PAGE))


def _machine(report: DemoReport) -> str:
    return escape(report.facts["device_name"].replace("(R)", "").replace("(TM)", ""))


def _headlines(report: DemoReport) -> str:
    trained = max((row["seconds"] for row in report.metrics if "seconds" in row), default=0.0)
    numbers = [
        (f"{report.facts['parameters'] / 1e6:.1f} million", "parameters: the numbers it has learned"),
        (format_duration(trained), f"of training on {_machine(report)}"),
        (
            f"{report.bits_per_byte:.2f} bits",
            f"per byte of new text; gzip needs {report.compression.gzip:.2f}",
        ),
    ]
    return "".join(f"<div><b>{number}</b><span>{what}</span></div>" for number, what in numbers)


def _about(times: float) -> str:
    """A ratio to one digit, as one says it: 33.4 is "30", 10452 is "10,000"."""
    unit = 10.0 ** math.floor(math.log10(times))
    return f"{round(times / unit) * unit:,.0f}"


def _health(metrics: Sequence[dict[str, Any]]) -> str:
    """How healthy the run was, with a word on how to read it; nothing where it was not recorded."""
    pictures = health(metrics)
    if not pictures:
        return ""
    return (
        f"{pictures}<p class='note'>The gradient norm says how steep the error is where the model stands; a "
        "peak is a bad batch. An update of about a thousandth of the weights is usual. MFU, model FLOPs "
        "utilisation, is the share of this computer's best speed in matrix products that went into the "
        "model.</p>"
    )


def _skipped(metrics: Sequence[dict[str, Any]]) -> str:
    reasons = [row["reason"] for row in metrics if row["kind"] == "skipped"]
    if not reasons:
        return ""
    return (
        f"<p class='note'>Steps skipped: {len(reasons):,} ({escape('; '.join(dict.fromkeys(reasons)))}).</p>"
    )


def _verdict(marks: dict[str, float], bits_per_byte: float) -> str:
    beaten = [name for name, bits in marks.items() if bits_per_byte < bits]
    others = [name for name in marks if name not in beaten]
    if not others:
        share = bits_per_byte / marks["gzip -9"]
        return f"The model needs fewer than all of them: {share:.0%} of what gzip takes."
    if beaten:
        return f"The model needs fewer than {' and '.join(beaten)}, and more than {' and '.join(others)}."
    return "The model still needs more than all of them; it has not trained for long."


def _samples(samples: Sequence[Sample]) -> str:
    rows = (list(row) for _, row in groupby(samples, key=lambda sample: sample.prompt))
    return "".join(f"<div class='samples'>{''.join(map(_sample, row))}</div>" for row in rows)


def _sample(sample: Sample) -> str:
    end = sample.copied_start + sample.copied_chars
    before, after = sample.text[: sample.copied_start], sample.text[end:]
    copied = sample.text[sample.copied_start : end]
    prompt = f"<b>{shown(sample.prompt)}</b>" if sample.prompt else "<span class='quiet'>(no prompt)</span> "
    words = "1 word" if sample.copied_words == 1 else f"{sample.copied_words} words"
    return (
        f"<figure><figcaption><b>temperature {sample.temperature:g}</b> seed {sample.seed}</figcaption>"
        f"<p class='sample'>{prompt}{shown(before)}<mark>{shown(copied)}</mark>{shown(after)}</p>"
        f"<figcaption>longest copy: {sample.copied_chars} characters, {words}</figcaption></figure>"
    )


def _table(rows: dict[str, str]) -> str:
    return "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in rows.items()
    )


def _data_rows(data: DataFacts) -> dict[str, str]:
    return {
        "read": f"{data.documents_read:,} modules and topics, {format_bytes(data.bytes_read)}",
        "removed": f"{data.duplicate_documents:,} duplicate documents, "
        f"{data.repeated_paragraphs:,} repeated paragraphs, and what is code rather than English",
        "trained on": f"{data.training_documents:,} documents, {format_bytes(data.training_bytes)}",
        "held out": f"{data.held_out_documents:,} documents, {format_bytes(data.held_out_bytes)}: whole "
        "modules and topics, chosen by a hash of their names",
        "overlap left": f"{data.shared_13_grams:.1%} of the runs of 13 words in the held-out text stand in "
        f"the training text too ({data.shared_8_grams:.1%} of the runs of 8 words)",
    }


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else format_duration(seconds)


def _circumstance_rows(report: DemoReport) -> dict[str, str]:
    facts, recipe = report.facts, report.recipe
    model = recipe["model"]
    return {
        "model": f"{facts['parameters']:,} parameters: {model['n_layer']} layers, {model['n_embd']} wide, "
        f"{model['n_head']} heads, context {model['context_length']} tokens, "
        f"vocabulary {report.vocabulary.size:,}",
        "training": f"{facts['steps']:,} steps of {recipe['batch_tokens']:,} tokens, "
        f"{recipe['optimizer']['name']}, seed {recipe['seed']}",
        "computed in": f"{facts['precision']}, {'compiled' if facts['compiled'] else 'not compiled'}, "
        f"{facts['threads']} threads, micro-batch {facts['micro_batch']}",
        "machine": f"{facts['device_name']} ({facts['device']})",
        "versions": f"gpt2lab {facts['gpt2lab']}, Python {facts['python']}, PyTorch {facts['torch']}",
        "time in all": f"{format_duration(sum(report.stage_seconds.values()))} from text to this page",
    }
