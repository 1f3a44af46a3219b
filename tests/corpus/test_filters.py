"""The filter stage: each step takes out what it should, and says so."""

from dataclasses import replace

import pytest

from gpt2lab.base.toml_table import as_table
from gpt2lab.corpus.filters import filter_file
from gpt2lab.corpus.parquet_files import DOCUMENT, RowWriter, read_rows
from gpt2lab.corpus.recipe import CorpusRecipe
from gpt2lab.corpus.stage import Call

ENGLISH = (
    "It was the best of all the houses that they had seen in the town, and she said so to everyone. "
    "Her brother was not there when it happened, but he had heard of it from the man at the station. "
)


@pytest.fixture
def run(tmp_path):
    """Runs the stage over texts; returns what is kept, what is dropped, and the counts."""

    def run(texts, **tables):
        recipe = CorpusRecipe()
        for name, fields in tables.items():
            recipe = replace(recipe, **{name: replace(getattr(recipe, name), **fields)})
        with RowWriter(tmp_path / "in.parquet", DOCUMENT) as writer:
            for number, text in enumerate(texts):
                writer.write((str(number), text, f"file:{number}", f"https://example.com/{number}"))
        table = as_table(recipe)
        parameters = {name: table[name] for name in ("clean", "language", "quality", "personal_data")}
        outputs = (tmp_path / "kept.parquet", tmp_path / "dropped.parquet")
        counts = filter_file(Call((tmp_path / "in.parquet",), outputs, parameters, 10**8))
        kept = list(read_rows(outputs[0], ["id", "text", "url"]))
        return kept, list(read_rows(outputs[1], ["id", "stage", "reason", "detail", "text"])), counts

    return run


def test_each_drop_has_its_step_and_reason(run):
    french = "Il n'y avait personne dans la maison quand ils sont arrivés, et la porte était ouverte. " * 3
    texts = ["short", "1234 5678 " * 30, french, ENGLISH]
    kept, dropped, counts = run(texts, clean={"min_chars": 20, "min_letters": 0.5})
    assert [(identity, text) for identity, text, _ in kept] == [("3", ENGLISH.strip())]
    assert [row[:4] for row in dropped] == [
        ("0", "clean", "too_short", ""),
        ("1", "clean", "few_letters", ""),
        ("2", "language", "not_english", "fr"),
    ]
    assert counts["documents"] == 4
    assert counts["kept"] == 1
    assert counts["steps"]["clean"]["documents"] == 2
    assert counts["dropped"]["language/not_english"]["documents"] == 1


def test_lines_that_quality_rules_take_out_are_kept_apart(run):
    lines = [f"{ENGLISH}{number}." for number in range(6)] + ["Click here", "We use cookies on this page."]
    kept, dropped, counts = run(["\n".join(lines)], quality={"rules": "c4"})
    assert len(kept) == 1
    assert "cookies" not in kept[0][1]
    assert {(stage, reason, detail) for _, stage, reason, detail, _ in dropped} == {
        ("quality", "c4_policy", "a part"),
        ("quality", "c4_no_terminal_punctuation", "a part"),
    }
    assert counts["parts"]["quality/c4_policy"]["documents"] == 1


def test_personal_data_is_masked_and_counted_and_kept_nowhere(run):
    text = f"{ENGLISH}Write to jane.doe@mail.org or call (212) 867-5309. {ENGLISH}"
    kept, dropped, counts = run([text, ENGLISH], personal_data={"mask": True})
    assert "jane" not in kept[0][1]
    assert "name@example.com" in kept[0][1]
    assert kept[1][1] == ENGLISH.strip()
    assert dropped == []
    assert counts["parts"] == {
        "personal_data/email": {"documents": 1, "bytes": 0},
        "personal_data/phone": {"documents": 1, "bytes": 0},
    }


def test_wrong_decoding_is_put_right_where_it_is_asked_for(run):
    text = f"{ENGLISH}The cafÃ© was closed."
    assert "cafÃ©" in run([text])[0][0][1]
    assert "café was" in run([text], clean={"repair_encoding": True})[0][0][1]


def test_code_is_taken_out_of_documentation(run):
    code = "import os.path\nfrom pathlib import Path\nimport itertools.chain"
    kept, dropped, _ = run([f"{ENGLISH}\n\n{code}"], clean={"python_docs": True})
    assert kept[0][1] == ENGLISH.strip()
    assert [(stage, reason, part) for _, stage, reason, _, part in dropped] == [("clean", "code", code)]
