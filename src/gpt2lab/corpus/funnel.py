"""The funnel: how many documents, bytes and tokens each step left, and for what reasons the others went."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gpt2lab.base.progress import format_bytes
from gpt2lab.corpus.stage import Counts

READ_STEPS = ("read", "extract")
FILTER_STEPS = ("clean", "language", "quality", "personal_data")


@dataclass(frozen=True)
class FunnelRow:
    """What one step left.

    Attributes:
        step: its name.
        documents: how many it left.
        bytes: UTF-8 bytes of their text.
        dropped: by reason, how many documents it took out, and their bytes.
        parts: by reason, how many parts of documents, and their bytes.
    """

    step: str
    documents: int
    bytes: int
    dropped: dict[str, tuple[int, int]] = field(default_factory=dict)
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)


def add_counts(counts: Iterable[Counts]) -> Counts:
    """The sum of what several tasks of one stage counted: numbers are added, tables entry by entry."""
    total: Counts = {}
    for one in counts:
        for name, value in one.items():
            if isinstance(value, dict):
                total[name] = add_counts([total.get(name, {}), value])
            else:
                total[name] = total.get(name, 0) + value
    return total


def funnel_rows(read: Counts, filtered: Counts, verdicts: Sequence[tuple[str, Counts]]) -> list[FunnelRow]:
    """The rows of the funnel from what its stages counted.

    Args:
        read: of the stage ``read``.
        filtered: of the stage ``filter``.
        verdicts: name and counts of each stage that gave verdicts, in order.
    """
    rows = [FunnelRow("sources", read["documents"], read["bytes"])]
    for counts, steps in ((read, READ_STEPS), (filtered, FILTER_STEPS)):
        for step in steps:
            if step in counts["steps"] or _of_step(counts["dropped"], step):
                left = counts["steps"].get(step, {"documents": 0, "bytes": 0})
                reasons = (_of_step(counts[table], step) for table in ("dropped", "parts"))
                row = FunnelRow(step, left["documents"], left["bytes"], *reasons)
                if step != "extract" or (row.documents, row.bytes) != (rows[-1].documents, rows[-1].bytes):
                    rows.append(row)  # of texts there is nothing to extract
    for step, counts in verdicts:
        rows.append(FunnelRow(step, counts["kept"], counts["kept_bytes"], _of_step(counts["dropped"], step)))
    return rows


def _of_step(table: Mapping[str, Mapping[str, int]], step: str) -> dict[str, tuple[int, int]]:
    """Entries of ``step/reason``, most documents first."""
    own = [
        (name.split("/", 1)[1], numbers) for name, numbers in table.items() if name.split("/", 1)[0] == step
    ]
    own.sort(key=lambda entry: (-entry[1]["documents"], entry[0]))
    return {reason: (numbers["documents"], numbers["bytes"]) for reason, numbers in own}


def funnel_text(rows: Sequence[FunnelRow], tokens: Mapping[str, Mapping[str, int]]) -> str:
    """The funnel in plain text, 80 columns wide.

    Args:
        rows: from the first step to the last.
        tokens: documents, tokens and bytes of each split. Tokens before the last step are estimated from it.
    """
    n_tokens = sum(split["tokens"] for split in tokens.values())
    per_byte = n_tokens / max(sum(split["bytes"] for split in tokens.values()), 1)
    lines = [f"{'step':<24}{'documents':>14}{'left':>8}{'text':>12}{'tokens':>16}"]
    first = max(rows[0].documents, 1)
    are_pages = any(row.step == "extract" for row in rows)
    for row in rows:
        share = f"{row.documents / first:.1%}"
        count = f"≈ {round(row.bytes * per_byte, -3):,.0f}" if row is not rows[-1] else f"{n_tokens:,}"
        if are_pages and row.step in ("sources", "read"):
            count = ""  # their bytes are not text
        lines.append(f"{row.step:<24}{row.documents:>14,}{share:>8}{format_bytes(row.bytes):>12}{count:>16}")
        for reason, (documents, n_bytes) in row.dropped.items():
            lines.append(f"  - {reason:<20}{documents:>14,}{'':>8}{format_bytes(n_bytes):>12}")
        for reason, (parts, n_bytes) in row.parts.items():
            lines.append(f"  - {reason + ' (parts)':<20}{parts:>14,}{'':>8}{format_bytes(n_bytes):>12}")
    for split, numbers in tokens.items():
        lines.append(
            f"{split:<24}{numbers['documents']:>14,}{'':>8}{format_bytes(numbers['bytes']):>12}"
            f"{numbers['tokens']:>16,}"
        )
    return "\n".join(lines)


def as_json(rows: Sequence[FunnelRow]) -> list[dict[str, Any]]:
    """The funnel as it stands in a corpus's manifest."""
    return [asdict(row) for row in rows]


def as_rows(table: Sequence[Mapping[str, Any]]) -> list[FunnelRow]:
    """The funnel of a corpus's manifest."""
    return [FunnelRow(**row) for row in table]
