"""From links and from web archives to shards that train, as a person goes about it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gpt2lab.cli.main import main

for module in ("aiohttp", "ada_url", "protego", "fastwarc", "trafilatura", "py3langid"):
    pytest.importorskip(module)

ENGLISH = (
    "The old lighthouse at the end of the island number {} had not been used for {} years when they came.",
    "All of the {} windows were broken, and the door was held by {} ropes that someone had tied to it.",
    "She said that it was the most beautiful place that she had seen in {} days, and in {} nights.",
    "There was a letter on table {}, and it had been written by {} people who were not there any more.",
)
FRENCH = "Le vieux phare numéro {} au bout de l'île n'avait pas servi depuis {} ans quand ils sont arrivés."


def article(number: int, sentences: tuple[str, ...] = ENGLISH) -> bytes:
    text = "".join(
        f"<p>{sentence.format(number * 17 + turn, number + 31 * turn)}</p>"
        for turn in range(3)
        for sentence in sentences
    )
    return (
        f"<html><body><nav>Home</nav><article><h1>Tale {number}</h1>{text}</article></body></html>".encode()
    )


def answer(body: bytes, status: int = 200, content_type: str = "text/html; charset=utf-8") -> Any:
    def send(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def submission(url: str, score: int = 3, *, is_self: bool = False) -> str:
    return json.dumps({"url": url, "score": score, "is_self": is_self, "created_utc": 1_500_000_000})


def build(sources: list[str], out: str, *options: str) -> int:
    common = ["--shards.tokenizer", "vocabulary", "--shards.validation-fraction", "0.4", "--workers", "1"]
    return main(["corpus", "build", "webtext", *sources, "--out", out, *common, *options])


def trains(shards: str, recipe: str) -> bool:
    Path("tiny.toml").write_text(recipe)
    return main(["train", "tiny.toml", "--data.path", shards, "--out", "run"]) == 0


def test_from_submissions_to_a_model(
    new_site: Any, here: Path, tiny_recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    zstd = pytest.importorskip("backports.zstd")
    site = new_site({f"/{number}": answer(article(number)) for number in range(30)})
    site.answers |= {
        "/copy": answer(article(7)),
        "/french": answer(article(1, (FRENCH,))),
        "/gone": answer(b"", 404),
        "/program": answer(b"\0\1\2", content_type="application/octet-stream"),
        "/robots.txt": answer(b"User-agent: *\nDisallow: /secret", content_type="text/plain"),
        "/secret": answer(article(99)),
    }
    paths = [*(str(number) for number in range(30)), "copy", "french", "gone", "program", "secret"]
    lines = [submission(f"{site.url}/{path}") for path in paths]
    lines += [submission(f"{site.url}/0#again", 5), submission(f"{site.url}/unloved", 2)]
    lines += [submission(f"{site.url}/self", is_self=True), submission("https://en.wikipedia.org/wiki/X", 99)]
    Path("RS.zst").write_bytes(zstd.compress("\n".join(lines).encode()))

    assert main(["corpus", "fetch", "RS.zst", "--out", "pages", "--delay", "0", "--allow-private"]) == 0
    said = capsys.readouterr().out
    assert "pages: 32 pages" in said
    reasons = {"duplicate", "excluded_site", "low_score", "not_text", "robots_forbid", "self_post", "status"}
    assert {line.split()[0] for line in said.splitlines()[1:]} == reasons
    assert {"/unloved", "/self", "/secret"}.isdisjoint(site.paths())

    assert build(["pages"], "corpus", "--duplicates.near-threshold", "0.9") == 0
    funnel = capsys.readouterr().out
    for row in (r"extract +\d+", r"  - not_english +1 ", r"  - exact_duplicate +1 ", r"duplicates +30 "):
        assert re.search(f"^{row}", funnel, re.MULTILINE), funnel
    assert trains("corpus/shards", tiny_recipe)


def test_from_real_web_archives_to_a_model(
    test_data: Path, here: Path, tiny_recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(folder) for folder in sorted((test_data / "web").glob("warc_*"))]
    assert len(folders) == 3
    assert build(folders, "corpus") == 0
    funnel = capsys.readouterr().out
    for reason in ("damaged", "status", "not_text", "revisit", "not_english", "no_main_text", "too_short"):
        assert re.search(f"^  - {reason} ", funnel, re.MULTILINE), funnel
    assert trains("corpus/shards", tiny_recipe)
