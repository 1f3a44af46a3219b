"""The doctor's findings on machines of several kinds."""

import json

import pytest

from gpt2lab.app import doctor
from gpt2lab.cli.main import main


def _findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.diagnose(quick=True)}


def test_a_missing_compiler_is_a_note_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cxx_compiler", lambda: None)
    finding = _findings()["C++ compiler"]
    assert finding.verdict == "note"
    assert "g++" in finding.advice


def test_what_fits_follows_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda device: 3_000_000_000)
    findings = _findings()
    assert findings["fits for generating"].value.startswith("gpt1, gpt2, gpt2-medium, gpt3-small")
    assert findings["fits for training"].value.startswith("gpt1, gpt2, gpt3-small (16")
    monkeypatch.setattr(doctor, "available_memory", lambda device: 1_000)
    assert _findings()["fits for training"].value.startswith("none of the published sizes")


def test_json_holds_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--quick", "--json"]) == 0
    names = {finding["name"] for finding in json.loads(capsys.readouterr().out)}
    assert {"PyTorch", "C++ compiler", "free memory", "fits for training"} <= names
