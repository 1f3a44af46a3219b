"""`gpt2lab corpus` at the command line; mistakes are in tests/test_bad_input.py."""

import json
import re
import subprocess
import sys

import pytest

from gpt2lab.cli.corpus import parse_size
from gpt2lab.cli.main import main

PAGE = "<html><body><article><h1>{}</h1>{}</article></body></html>"
SENTENCES = (
    "The old lighthouse at the end of the island had not been used for many years when they came to it.",
    "All of the windows were broken, and the door was held by nothing but a rope that someone had tied.",
    "She said that it was the most beautiful place that she had ever seen, and he was not sure about it.",
    "There was a letter on the table, and it had been written by a man who was not there any more.",
    "They read it to each other by the light of a small lamp until the morning came from the sea.",
)
HOSTILE = "<script>alert('x')</script> & {{recipe}} \x07 </p></figure><b>"


@pytest.fixture
def sources(here):
    folder = here / "sources"
    folder.mkdir()
    for number in range(40):
        text = "".join(f"<p>{sentence} {number} {number * 7}</p>" for sentence in SENTENCES)
        (folder / f"{number:02}.html").write_text(PAGE.format(f"Chapter {number}", text))
    records = [
        {
            "id": f"https://{site}/{number}",
            "text": f"Number {number} of {site}. " + " ".join(SENTENCES[: 1 + number]),
        }
        for site in ("www.bbc.co.uk", "en.example.org", "192.0.2.7")
        for number in range(4)
    ]
    records.append({"id": HOSTILE, "text": HOSTILE})
    records.append(
        {"id": "https://a.example/es", "text": "El perro no estaba en la casa cuando llegaron. " * 9}
    )
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    return folder


def build(*options):
    common = ["--shards.tokenizer", "vocabulary", "--shards.validation-fraction", "0.2", "--workers", "1"]
    common += ["--duplicates.near-threshold", "0.95"]
    return main(["corpus", "build", "webtext", "sources", "--out", "c", *common, *options])


def test_build_and_inspect(sources, here, capsys):
    assert build() == 0
    out, _ = capsys.readouterr()
    assert re.search(r"^extract +\d+", out, re.MULTILINE)
    assert re.search(r"^  - not_english +1 ", out, re.MULTILINE)
    assert re.search(r"^  - too_short +\d+ ", out, re.MULTILINE)
    assert "gpt2lab train laptop-10m --data.path c/shards" in out

    (here / "list.txt").write_text("1542261 google\n90 bbc\n20068\n")
    assert main(["corpus", "inspect", "c", "--domains", "list.txt"]) == 0
    again, _ = capsys.readouterr()
    assert again.splitlines()[:5] == out.splitlines()[:5]
    page = (here / "c" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; {{recipe}} \\x07 &lt;/p&gt;" in page
    for heading in ("What became of the sources", "What was dropped", "How long", "not English", "is from"):
        assert heading in page
    assert re.search(r"class='name'>bbc</th><td>\d+</td><td>[\d.]+%</td><td>2</td>", page)
    assert "http" not in re.sub(r"https?://(www\.bbc|en\.example|a\.example|192\.0)[^<]*", "", page)
    assert page.count("<figure>") == page.count("</figure>")


def test_the_command_it_ends_with_trains(sources, capsys):
    assert build() == 0
    (command,) = re.findall(r"^Train on it: gpt2lab (.*)$", capsys.readouterr().out, re.MULTILINE)
    smaller = "--model.n-layer 1 --model.n-embd 20 --model.context-length 32 --batch-tokens 64 --compile off"
    brief = "--schedule.steps 2 --schedule.warmup-steps 1 --validate-tokens 64 --sample-every 0"
    assert main([*command.split(), *smaller.split(), *brief.split()]) == 0


def test_inspect_writes_where_it_is_told_and_the_same_twice(sources, here, capsys):
    assert build() == 0
    for name in ("a.html", "b.html"):
        assert main(["corpus", "inspect", "c", "--html", name]) == 0
    assert (here / "a.html").read_bytes() == (here / "b.html").read_bytes()
    assert "WebText" not in (here / "a.html").read_text()


def test_a_second_build_says_the_same(sources, capsys):
    assert build() == 0
    first, _ = capsys.readouterr()
    assert build() == 0
    second, _ = capsys.readouterr()
    assert second == first


def test_help_is_light_and_names_the_recipes(capsys):
    assert main(["corpus", "--help"]) == 0
    out, _ = capsys.readouterr()
    assert "webtext" in out
    assert "corpus inspect FOLDER" in out
    with pytest.raises(SystemExit, match="0"):
        main(["corpus", "build", "fineweb", "--help"])
    out, _ = capsys.readouterr()
    assert "--duplicates.near-threshold" in out
    assert "--memory" in out
    code = (
        "import sys; from gpt2lab.cli.main import main; main(['corpus', '--help']);"
        "print(sorted({'pyarrow', 'torch', 'numpy', 'trafilatura', 'aiohttp'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("1.5 gb", 1_500_000_000), ("500MB", 5 * 10**8)]
)
def test_sizes(text, size):
    assert parse_size(text) == size
