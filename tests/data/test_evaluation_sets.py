import bz2
import gzip
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.data.evaluation_sets import EvaluationSet, read_evaluation_sets


def test_the_published_sets_are_read(test_data: Path) -> None:
    sets = {found.name: found for found in read_evaluation_sets(test_data / "evaluation")}
    assert {name: len(found.texts) for name, found in sets.items()} == {
        "LAMBADA test": 5153,
        "WikiText test": 60,
        "HellaSwag validation": 10042,
        "Winograd 273": 273,
        "Definite pronouns test": 564,
        "Natural Questions validation": 3610,
        "Natural Questions EfficientQA test": 1769,
        "WMT 2014 English": 176,
        "WMT 2014 French": 176,
    }
    assert (
        sets["HellaSwag validation"].texts[1].endswith("the lady stands and lifts the weight over her head.")
    )
    assert (
        sets["Winograd 273"]
        .texts[0]
        .startswith(
            "The city councilmen refused the demonstrators a permit because The city councilmen  feared"
        )
    )
    assert (
        sets["Definite pronouns test"].texts[0] == "The sniper shot the terrorist because he was a bad guy."
    )
    assert sets["WMT 2014 French"].texts[0].startswith("Spectaculaire saut en ")
    training = sets["Definite pronouns test"].training
    assert training
    assert len(training) == 1316
    assert sets["LAMBADA test"].training is None


def test_files_are_known_by_their_names_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "wiki.test.raw").write_text(
        " \n = One = \n \n k \n = 1 = \n \n = = Part = = \n \n = Two = \n \n More ."
    )
    (tmp_path / "wiki.train.raw.gz").write_bytes(gzip.compress(b" \n = Three = \n \n Old ."))
    record = b'{"ctx": "He", "endings": ["a", "b"], "label": 1}\n\n'
    (tmp_path / "hellaswag_val.jsonl.bz2").write_bytes(bz2.compress(record))
    (tmp_path / "other.txt").write_text("not a set")
    assert read_evaluation_sets(tmp_path) == [
        EvaluationSet(
            "WikiText test",
            [" = One = \n \n k \n = 1 = \n \n = = Part = = \n \n", " = Two = \n \n More ."],
            [" = Three = \n \n Old ."],
        ),
        EvaluationSet("HellaSwag validation", ["He b"]),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lambada_test.jsonl", b'{"text": "cut sh'),
        ("lambada_test.jsonl", b'{"passage": "another field"}'),
        ("lambada_test.jsonl", b"\xff\xfe"),
        ("lambada_test.jsonl", b""),
        ("hellaswag_val_full.txt.bz2", b"not compressed"),
        ("hellaswag_val_full.txt", b"context\nnine\na\nb\nc\nd\n"),
        ("wsc273.txt", b"one line only"),
        ("newstest2014-fren-ref.en.sgm", b"<html>no such page</html>"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_evaluation_sets(tmp_path)


def test_a_folder_without_sets_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no evaluation set.*lambada_test\.jsonl"):
        read_evaluation_sets(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_evaluation_sets(tmp_path / "none")
