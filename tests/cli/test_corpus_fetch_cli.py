import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.cli.corpus_fetch import main

for module in ("aiohttp", "ada_url", "protego", "fastwarc"):
    pytest.importorskip(module)


@pytest.fixture
def site() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path == "/robots.txt" else 200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>hello")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_links_become_pages_and_a_further_run_asks_nothing(
    tmp_path: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "links.txt").write_text(f"{site}/a\n{site}/b\n{site}/b#x\nnonsense\n{site}/c.jpg\n")
    arguments = [
        str(tmp_path / "links.txt"),
        "--out",
        str(tmp_path / "out"),
        "--delay",
        "0",
        "--allow-private",
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "out: 2 pages, 16 bytes, in " in said
    assert sorted(line.split() for line in said.splitlines()[1:]) == [
        ["duplicate", "1"],
        ["malformed", "1"],
        ["media_file", "1"],
    ]
    assert main(arguments) == 0
    assert "0 pages" in (said := capsys.readouterr().out)
    assert "2 links were done before" in said


def test_this_machine_is_not_asked_unless_told(
    tmp_path: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "links.txt").write_text(f"{site}/a\n")
    assert main([str(tmp_path / "links.txt"), "--out", str(tmp_path / "out")]) == 0
    assert "private_address" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.txt", "--out", "out"], "absent.txt: no such file"),
        (["links.txt", "absent.txt", "--out", "out"], "absent.txt: no such file"),
        ([".", "--out", "out"], "this is a folder, not a file"),
        (["links.txt", "--out", "links.txt"], "no folder can be made here"),
        (["links.txt", "--out", "out", "--before", "2018"], "'2018' is no day"),
        (["links.txt", "--out", "out", "--delay", "-1"], "delay_s is -1"),
        (["links.txt", "--out", "out", "--concurrency", "0"], "concurrency is 0"),
        (["--out", "out"], "no links are named"),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "links.txt").write_text("http://example.com/a.jpg\n")
    with pytest.raises(UserError) as raised:
        main(arguments)
    assert message in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["links.txt"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from gpt2lab.cli.corpus_fetch import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'aiohttp', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "robots.txt" in done.stdout
