"""The demo from end to end, on part of its corpus and with a model that trains in seconds."""

import itertools
import json
import os
import signal
from dataclasses import replace

import pytest
import torch

import gpt2lab
from gpt2lab.app import demo
from gpt2lab.base.files import sha256_of
from gpt2lab.cli.main import main
from gpt2lab.corpus.documents import read_documents
from gpt2lab.training.step import TrainingStep

FEW = 150  # documents


@pytest.fixture(scope="module", autouse=True)
def _few_documents():
    read = demo.read_python_docs
    documents = list(itertools.islice(read(), FEW))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "read_python_docs", lambda: documents)
        patch.setattr(demo, "PROMPTS", ("The function",))
        yield


@pytest.fixture(scope="module")
def recipe():
    shipped = demo.demo_recipe()
    model = replace(shipped.model, vocab_size=400, context_length=32, n_layer=1, n_embd=16, n_head=2)
    schedule = replace(shipped.schedule, steps=8, warmup_steps=1)
    return replace(
        shipped, model=model, schedule=schedule, batch_tokens=256, micro_batch=4, validate_every=4,
        validate_tokens=256, save_every=3, log_every=2, compile="off", device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory, recipe):
    """A demo's folder and its report."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, demo.run_demo(out, recipe)


def weights(out):
    return gpt2lab.load(out / "run")[0].state_dict()


def test_it_leaves_all_it_promises(finished):
    out, report = finished
    assert {path.name for path in out.iterdir()} == {
        "documents", "tokenizer", "shards", "run", "loss.png", "report.html", "report.json",
    }  # fmt: skip
    assert json.loads((out / "report.json").read_text())["bits_per_byte"] == report.bits_per_byte
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert f"{report.bits_per_byte:.2f}" in page
    assert 2 < report.bits_per_byte < 6  # a byte drawn blindly takes 8
    assert list(report.stage_seconds) == [
        "reading and cleaning", "learning a vocabulary", "tokenising", "training", "measuring and writing",
    ]  # fmt: skip
    assert [(s.prompt, s.temperature) for s in report.samples] == [("The function", t) for t in (0.5, 0.8, 1)]


def test_what_is_held_out_was_not_trained_on(finished):
    out, report = finished
    documents = list(read_documents([out / "documents/documents.jsonl"]))
    training, held_out = demo._split(documents)
    facts = report.data
    assert len(training) == facts.training_documents > 5 * facts.held_out_documents
    assert len(held_out) == facts.held_out_documents > 1
    assert not {document.id for document in training} & {document.id for document in held_out}
    manifest = json.loads((out / "shards/manifest.json").read_text())
    assert manifest["splits"]["val"]["documents"] == len(held_out)
    assert min(len(document.text) for document in documents) >= 200


def test_a_second_run_makes_nothing_anew(finished, recipe):
    out, report = finished
    files = [
        path
        for path in out.rglob("*")
        if path.is_file() and path.name not in ("report.html", "report.json", "loss.png", ".lock")
    ]
    before = {
        path: (path.stat().st_mtime_ns, sha256_of(path)) for path in files if path.name != "metrics.jsonl"
    }
    again = demo.run_demo(out, recipe)
    assert {path: (path.stat().st_mtime_ns, sha256_of(path)) for path in before} == before
    assert replace(again, stage_seconds={}) == replace(report, stage_seconds={})


def test_stopped_while_training_it_goes_on_where_it_was(finished, recipe, tmp_path, monkeypatch, capsys):
    undisturbed, report = finished
    take = TrainingStep.take

    def take_and_be_stopped(self, step, factor):
        if step == 4:
            monkeypatch.setattr(TrainingStep, "take", take)
            os.kill(os.getpid(), signal.SIGINT)
        return take(self, step, factor)

    monkeypatch.setattr(TrainingStep, "take", take_and_be_stopped)
    out = tmp_path / "the demo"
    monkeypatch.setattr(demo, "demo_recipe", lambda: recipe)
    capsys.readouterr()
    assert main(["demo", "--out", str(out), "--steps", "8", "--compile", "off"]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"Stopped; what was done is kept. Go on with: gpt2lab demo --out '{out}'"
    assert not (out / "report.html").exists()
    resumed = demo.run_demo(out, recipe)
    ours, expected = weights(out), weights(undisturbed)
    assert all(torch.equal(ours[name], value) for name, value in expected.items())
    assert resumed.bits_per_byte == report.bits_per_byte
    assert resumed.samples == report.samples
