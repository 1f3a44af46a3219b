"""A demo's report with plausible figures, made without training anything."""

import math
import random
from typing import Any

import pytest

from gpt2lab.app.report import DataFacts, DemoReport, Sample, VocabularyFacts
from gpt2lab.evaluation.compression import Compression

_STEPS, _BATCH, _WARMUP = 900, 8192, 40
_NATS_PER_BIT = 2.17  # nats a token for each bit a byte, at 3.13 bytes a token


def plausible_metrics(seed: int = 1) -> list[dict[str, Any]]:
    """A run of 900 steps: a loss that falls as losses do, noise, one dip in speed, two skipped steps."""
    noise = random.Random(seed)
    rows: list[dict[str, Any]] = []
    seconds = 0.0
    for step in range(_STEPS + 1):
        loss = 3.2 + 4.4 * math.exp(-step / 45) + 0.9 * math.exp(-step / 400)
        tokens = step * _BATCH
        if step and step % 5 == 0:
            speed = 48_000 * noise.uniform(0.95, 1.03) * (0.6 if 400 <= step < 430 else 1)
            seconds += 5 * _BATCH / speed
            rate = 0.003 * min(step / _WARMUP, (_STEPS - step) / (_STEPS - _WARMUP))
            row = {"loss": loss + noise.gauss(0, 0.06), "lr": rate, "grad_norm": 0.9, "tokens_per_s": speed}
            rows.append(
                {
                    "kind": "train",
                    "step": step,
                    "tokens": tokens,
                    **row,
                    "seconds": seconds,
                    "memory_bytes": 10**9,
                }
            )
        if step % 100 == 0:
            held_out = loss + 0.12
            row = {"loss": held_out, "bits_per_byte": held_out / _NATS_PER_BIT, "seconds": seconds}
            rows.append({"kind": "validation", "step": step, "tokens": tokens, **row})
        if step in (333, 334):
            rows.append({"kind": "skipped", "step": step, "reason": "the gradient norm is inf"})
    return rows


@pytest.fixture(scope="session")
def metrics() -> list[dict[str, Any]]:
    return plausible_metrics()


def plausible_report() -> DemoReport:
    """What a demo would fill in."""
    return DemoReport(
        recipe={
            "model": {"n_layer": 4, "n_embd": 256, "n_head": 8, "context_length": 128},
            "optimizer": {"name": "muon"},
            "batch_tokens": _BATCH,
            "seed": 17,
        },
        facts={
            "steps": _STEPS,
            "micro_batch": 32,
            "precision": "bfloat16",
            "compiled": True,
            "device": "cpu",
            "parameters": 3_716_608,
            "device_name": "Example(R) Processor 9000, 2 cores",
            "threads": 2,
            "torch": "2.13.0+cpu",
            "python": "3.12.4",
            "gpt2lab": "0.1.0",
            "command": "gpt2lab demo --out runs/demo --minutes 2.5",
        },
        metrics=plausible_metrics(),
        data=DataFacts(1496, 5_651_870, 125, 1726, 977, 3_826_920, 67, 250_569, 0.0221, 0.0119),
        vocabulary=VocabularyFacts(
            size=2048,
            bytes_per_token=3.1352,
            example=_SENTENCE.split("|"),
            longest=["\n                ", *(f" {word}" for word in _LONGEST)],
        ),
        bits_per_byte=1.5231,
        held_out_loss=3.3095,
        compression=Compression(gzip=2.5361, xz=2.2569, xz_after_training=1.8162),
        samples=[_sample(prompt, temperature) for prompt in _TEXTS for temperature in (0.5, 0.8, 1.0)],
        stage_seconds={
            "reading and cleaning": 7.0,
            "learning a vocabulary": 1.4,
            "tokenising": 0.3,
            "training": 158.3,
            "measuring and writing": 17.1,
        },
        written="2026-11-21 14:05",
    )


_LONGEST = ("implementation", "representation", "compatibility", "documentation", "configuration")
_SENTENCE = (
    'F|unction|s| defined| with| "|as|yn|c| def|"| syntax| are| always| cor|out|ine| functions|,| even| if'
    '| they| do| not| contain| "|a|w|ait|"| or| "|as|yn|c|"| keyword|s|.'
)
_TEXTS = {
    "The function returns": [
        " the value of the object. If the value is not found, the default is returned.\n\n\n\nIf it is a "
        "string, the string is converted to a list of the values of the object. The default is the value of "
        "the object, and the value is the value of the object.",
        " a new iterator over the file names. The argument is a mapping of the form that the interpreter is "
        "started with, and it raises OSError if the path cannot be opened.\n\nChanged in version 3.4: The "
        "timeout parameter was added to the queue.",
        " True if message headers have got attribute *lines*; see below for the locale when one is given "
        "twice.\n\n\n\n\n\nUsed by the import machinery, with two ``<b>`` arguments: the widget & its "
        "parent.",
    ],
    "If the file does not exist,": [
        " the file is created. If the file is not a file, the file is opened for reading.\n\n\nThe file is "
        "opened in binary mode, and the file is closed when the file is closed.",
        " an OSError is raised. The optional argument mode is the same as for open(), and the buffer is "
        "flushed before the descriptor is duplicated.",
        " hence no link follows, a warning for each missing entry names it. Sockets are unlinked, unless "
        "umask shows groups.\n\tNever mix both!",
    ],
    "": [
        "Return the value of the object.\n\nThe value is the value of the object.",
        "Create a new subparser and return it.\n\nAll keyword arguments are passed on.",
        "Bisect, or hash, what a frame holds\x16 when tracing starts anew.",
    ],
}


def _sample(prompt: str, temperature: float) -> Sample:
    text = _TEXTS[prompt][[0.5, 0.8, 1.0].index(temperature)]
    start = text.index(" ", 8)
    copied = text[start : start + int(60 - 40 * temperature)]
    return Sample(prompt, temperature, 11, text, start, len(copied), len(copied.split()))


@pytest.fixture(scope="session")
def report() -> DemoReport:
    return plausible_report()
