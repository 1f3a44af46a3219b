"""Which recipe is better, judged over seeds: `gpt2lab compare RUN RUN ...`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from gpt2lab.base.errors import UserError
from gpt2lab.base.toml_table import as_table, flattened
from gpt2lab.evaluation.significance import Welch, welch
from gpt2lab.training.recipe import Recipe
from gpt2lab.training.run import RunFolder

Unit = Literal["loss", "bits_per_byte"]

# What does not bear on the weights a run ends with.
_NO_PART_OF_IT = (
    *("seed", "summary", "device", "background_saves", "recompute_activations"),
    *("log_every", "validate_every", "save_every", "save_minutes", "sample_every"),
    *("sample_prompt", "expected_curve", "writers"),
)
_MUON = "optimizer.muon_"  # settings that AdamW does not have


@dataclass(frozen=True)
class Curve:
    """The validations of one run: training tokens, loss in the comparison's unit, seconds of training."""

    tokens: tuple[float, ...]
    loss: tuple[float, ...]
    seconds: tuple[float, ...]

    def loss_at(self, tokens: float) -> float:
        """Loss after so many tokens, straight between two validations."""
        return _between(self.tokens, self.loss, tokens)

    def reached(self, loss: float) -> tuple[float, float] | None:
        """Tokens and seconds after which the loss was first this low, straight between; None if never."""
        if self.loss[0] <= loss:
            return self.tokens[0], self.seconds[0]
        for left, (before, after) in enumerate(pairwise(self.loss)):
            if after <= loss:
                share = (before - loss) / (before - after)
                return tuple(  # type: ignore[return-value]
                    values[left] + share * (values[left + 1] - values[left])
                    for values in (self.tokens, self.seconds)
                )
        return None


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
        name: what sets them apart from the other groups.
        runs: their folders.
        seeds: one a run.
        curves: one a run.
    """

    name: str
    runs: tuple[Path, ...]
    seeds: tuple[int, ...]
    curves: tuple[Curve, ...]

    @property
    def final(self) -> list[float]:
        """The last validation's loss of each run."""
        return [curve.loss[-1] for curve in self.curves]

    @property
    def tokens(self) -> float:
        """Training tokens of its longest run."""
        return max(curve.tokens[-1] for curve in self.curves)

    @property
    def seconds(self) -> float:
        """Mean seconds of training of a run."""
        return fmean(curve.seconds[-1] for curve in self.curves)

    def at(self, tokens: float) -> list[float]:
        """Each run's loss after so many tokens."""
        return [curve.loss_at(tokens) for curve in self.curves]


@dataclass(frozen=True)
class Duel:
    """Two groups compared.

    Attributes:
        better, worse: the group with the lower mean final loss, and the other.
        final: test of their final losses; None where a group has one seed.
        equal_tokens: up to where all their runs went.
        at_equal_tokens: test of their losses there.
        lead_at_equal_tokens: the better group's mean loss there less the worse one's.
        tokens_share, seconds_share: of what the worse group took, the share after which the runs of the
            better one had its final mean loss (mean over runs); None if one of them never had.
    """

    better: Group
    worse: Group
    final: Welch | None
    equal_tokens: float
    at_equal_tokens: Welch | None
    lead_at_equal_tokens: float
    tokens_share: float | None
    seconds_share: float | None


@dataclass(frozen=True)
class Comparison:
    """All groups, best first, and each compared with the best; `notes` say what to beware of."""

    unit: Unit
    groups: tuple[Group, ...]
    duels: tuple[Duel, ...]
    notes: tuple[str, ...] = field(default=())


def compare(folders: Sequence[Path]) -> Comparison:
    """Read runs, put those together that differ in their seed only, and test the groups against the best.

    Raises:
        UserError: a folder is no run or has no validation yet; the same run is named twice; the runs have
            different vocabularies and no bits per byte, so that nothing of theirs can be compared.
    """
    if len({folder.absolute() for folder in folders}) < len(folders):
        raise UserError("the same run is named twice", where="RUN", fix="Name each run once")
    runs = [_Run.read(folder) for folder in folders]
    unit, notes = _unit_of(runs)
    notes += [note for run in runs if (note := run.unfinished())]
    groups = sorted(_groups(runs, unit), key=lambda group: fmean(group.final))
    duels = tuple(_duel(groups[0], other) for other in groups[1:])
    if any(len(group.runs) == 1 for group in groups) and len(groups) > 1:
        notes.append("a group with one seed gives no p-value: train it with two more, --seed 2 and --seed 3")
    if len({group.tokens for group in groups}) > 1:
        notes.append(
            "the groups were trained on different numbers of tokens; at equal tokens a longer run's learning "
            "rate is still high, which makes it look worse there than a run made for that length"
        )
    return Comparison(unit, tuple(groups), duels, tuple(notes))


@dataclass(frozen=True)
class _Run:
    folder: Path
    recipe: Recipe
    facts: Mapping[str, Any]
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "_Run":
        if not RunFolder.is_one(folder):
            raise UserError("this is no run's folder", where=folder, fix="Name folders that `train` made")
        run = RunFolder(folder)
        rows = [row for row in run.metrics() if row["kind"] == "validation" and row["tokens"] > 0]
        if not rows:
            raise UserError(
                "this run has no validation yet", where=folder, fix=f"Go on with it: gpt2lab train {folder}"
            )
        return cls(folder, run.recipe(), run.facts() or {}, rows)

    def unfinished(self) -> str:
        """What to beware of where it did not come to its end."""
        last, steps = self.rows[-1]["step"], self.facts.get("steps", 0)
        if last >= steps:
            return ""
        return f"{self.folder} is not at its end: its loss is that after step {last:,} of {steps:,}"

    def curve(self, unit: Unit) -> Curve:
        return Curve(*(tuple(float(row[name]) for row in self.rows) for name in ("tokens", unit, "seconds")))

    def fields(self) -> dict[str, Any]:
        """What its future depended on, the seed apart, as ``optimizer.name``: value."""
        flat = {
            key: value for key, value in flattened(as_table(self.recipe)).items() if key not in _NO_PART_OF_IT
        }
        if self.recipe.optimizer.name != "muon":
            flat = {key: value for key, value in flat.items() if not key.startswith(_MUON)}
        if self.recipe.minutes:  # which set the steps, other ones each time
            del flat["schedule.steps"]
        return flat


def _unit_of(runs: Sequence[_Run]) -> tuple[Unit, list[str]]:
    """Loss where tokens mean the same to all runs, else bits per byte; and what to beware of."""
    notes: list[str] = []
    data = {run.facts.get("data_fingerprint") for run in runs}
    if len({run.recipe.model.vocab_size for run in runs}) == 1 and len(data) == 1:
        return "loss", notes
    if all(row.get("bits_per_byte") is not None for run in runs for row in run.rows):
        if len(data) > 1:
            notes.append("not all runs were trained and validated on the same shards")
        return "bits_per_byte", notes
    if len({run.recipe.model.vocab_size for run in runs}) > 1:
        raise UserError(
            "these runs have different vocabularies, and not all recorded bits per byte",
            where="RUN",
            fix="Train them with their vocabulary at hand (--data.tokenizer), or compare runs of one",
        )
    notes.append("not all runs were trained and validated on the same shards")
    return "loss", notes


def _groups(runs: Sequence[_Run], unit: Unit) -> list[Group]:
    kinds: list[tuple[dict[str, Any], list[_Run]]] = []
    tables: dict[object, dict[str, Any]] = {}  # the same tokens may lie elsewhere on another machine
    for run in runs:
        fields = run.fields()
        data = {key: fields.pop(key) for key in list(fields) if key.startswith("data.")}
        fields |= tables.setdefault(run.facts.get("data_fingerprint", run.folder), data)
        members = next((members for known, members in kinds if known == fields), None)
        if members is None:
            kinds.append((fields, [run]))
        else:
            members.append(run)
    names = _names([fields for fields, _ in kinds])
    return [
        Group(
            name or "all runs",
            tuple(run.folder for run in members),
            tuple(run.recipe.seed for run in members),
            tuple(run.curve(unit) for run in members),
        )
        for name, (_, members) in zip(names, kinds, strict=True)
    ]


def _names(kinds: Sequence[dict[str, Any]]) -> list[str]:
    """What sets each kind of recipe apart from the others: ``"muon, steps 900"``, the optimizer first."""
    every = {key for fields in kinds for key in fields}
    # That AdamW has no such setting is said by its name.
    having = {key: [kind for kind in kinds if key in kind or not key.startswith(_MUON)] for key in every}
    different = [key for key in every if len({str(kind.get(key)) for kind in having[key]}) > 1]
    different.sort(key=lambda key: (key != "optimizer.name", key))

    def words(kind: dict[str, Any], key: str) -> str:
        value = str(kind.get(key, "none"))
        return value if key == "optimizer.name" else f"{key.rpartition('.')[2]} {value}"

    return [", ".join(words(kind, key) for key in different if kind in having[key]) for kind in kinds]


def _duel(better: Group, worse: Group) -> Duel:
    equal = min(curve.tokens[-1] for group in (better, worse) for curve in group.curves)
    reached = [curve.reached(fmean(worse.final)) for curve in better.curves]
    shares: tuple[float | None, float | None] = (None, None)
    found = [point for point in reached if point is not None]
    if len(found) == len(reached):
        shares = (
            fmean(tokens for tokens, _ in found) / worse.tokens,
            fmean(seconds for _, seconds in found) / worse.seconds if worse.seconds else None,
        )
    return Duel(
        better,
        worse,
        welch(better.final, worse.final),
        equal,
        welch(better.at(equal), worse.at(equal)),
        fmean(better.at(equal)) - fmean(worse.at(equal)),
        *shares,
    )


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    if x <= xs[0]:
        return ys[0]
    for left, (start, end) in enumerate(pairwise(xs)):
        if x <= end:
            return ys[left] + (x - start) / (end - start) * (ys[left + 1] - ys[left])
    return ys[-1]


def spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds; not a number for one."""
    return stdev(values) if len(values) > 1 else math.nan
