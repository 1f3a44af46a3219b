"""What `gpt2lab doctor` prints, for people and for programs."""

import json
import subprocess
import sys

import pytest

from gpt2lab.app import doctor
from gpt2lab.app.doctor import Finding
from gpt2lab.cli.main import main

FINDINGS = [
    Finding("software", "C++ compiler", "none [bold]", "note", "Install [g++]"),
    Finding("hardware", "memory", "1.0 GB free", "problem", "Close other programs", {"free_bytes": 10**9}),
    Finding("what fits", "gpt2", "generating 497.8 MB"),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Puts made-up findings in the place of real ones; holds what `quick` was."""
    calls: list[bool] = []

    def diagnose(*, quick: bool = False) -> list[Finding]:
        calls.append(quick)
        return FINDINGS

    monkeypatch.setattr(doctor, "diagnose", diagnose)
    return calls


def test_prints_a_line_a_finding(asked: list[bool], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "software",
        "note C++ compiler none [bold]",
        "Install [g++].",
        "hardware",
        "problem memory 1.0 GB free",
        "Close other programs.",
        "what fits",
        "ok gpt2 generating 497.8 MB",
        "problems: 1, notes: 1",
    ]
    assert asked == [False]


def test_json_is_for_programs(asked: list[bool], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--quick"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert asked == [True]
    assert [row["verdict"] for row in rows] == ["note", "problem", "ok"]
    assert rows[1] == {
        "group": "hardware",
        "name": "memory",
        "value": "1.0 GB free",
        "verdict": "problem",
        "advice": "Close other programs",
        "numbers": {"free_bytes": 10**9},
    }


def test_help_costs_no_torch() -> None:
    code = "import sys, gpt2lab.cli.doctor; sys.exit('torch' in sys.modules or 'rich.console' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_option() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--quik"])
    assert stop.value.code == 2
