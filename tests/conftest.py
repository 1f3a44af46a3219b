"""What every test may ask for."""

import hashlib
import json
import os
import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from hypothesis import settings

# How long an example takes says nothing on a busy machine.
# Continuous integration tries the same examples each time; elsewhere every run tries new ones.
settings.register_profile("gpt2lab", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("gpt2lab")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of public test data, named by GPT2LAB_TEST_DATA; the test skips where it is unset."""
    folder = os.environ.get("GPT2LAB_TEST_DATA")
    if not folder:
        pytest.skip("GPT2LAB_TEST_DATA is not set: public vocabularies, books and goldens are not at hand")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices: a second thread only waits, above all on a busy machine."""
    torch.set_num_threads(1)


TINY_RECIPE = """
batch_tokens = 64
micro_batch = 2
device = "cpu"
precision = "float32"
compile = "off"
log_every = 1
validate_every = 2
validate_tokens = 256
save_every = 2
[model]
vocab_size = 300
context_length = 16
n_layer = 2
n_head = 2
n_embd = 32
[data]
path = "text.txt"
tokenizer = "vocabulary"
[schedule]
steps = 4
warmup_steps = 1
"""


@pytest.fixture(scope="session")
def tiny_recipe() -> str:
    """What stands in the `tiny.toml` of `made`."""
    return TINY_RECIPE


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user might have it: text.txt, vocabulary/, tiny.toml, and done/, the run made of them."""
    from gpt2lab.cli.main import main
    from gpt2lab.tokenizer import train_bpe

    folder = tmp_path_factory.mktemp("made")
    rng = random.Random(0)
    words = ["café", *("".join(rng.choices("abcdefgh", k=5)) for _ in range(60))]
    text = "\n\n".join(" ".join(rng.choices(words, k=12)) for _ in range(300))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    train_bpe([text], 300).save(folder / "vocabulary")
    (folder / "tiny.toml").write_text(TINY_RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "tiny.toml", "--out", "done"]) == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` for one test, which is its working directory."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1_000_000  # files from this size on are described by SHA-256, as on the Hub


@dataclass
class FakeHub:
    """A Hugging Face Hub of our own: what it holds, how it misbehaves, and what it was asked."""

    repo: str
    files: dict[str, bytes]
    kind: str = "models"  # or "datasets"
    licence: str = ""
    described: dict[str, bytes] = field(default_factory=dict)  # sums are of these contents instead
    break_once: set[str] = field(default_factory=set)  # the connection breaks in the middle of these files
    refuse: tuple[int, str] | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def downloads(self) -> list[str]:
        """Names of the files of which bytes were asked for, in order."""
        return [
            path.rsplit("/", 1)[-1]
            for method, path, _ in self.requests
            if method == "GET" and "resolve" in path
        ]

    def sums(self, name: str) -> tuple[str, str]:
        """Git's SHA-1 and the SHA-256 that the server gives for a file."""
        content = self.described.get(name, self.files[name])
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return git, hashlib.sha256(content).hexdigest()

    def description(self) -> bytes:
        siblings = []
        for name, content in self.files.items():
            git, sha256 = self.sums(name)
            entry = {"rfilename": name, "size": len(content), "blobId": git}
            if len(content) >= LARGE:
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return json.dumps(
            {"id": self.repo, "modelId": self.repo, "sha": REVISION, "siblings": siblings}
            | {"tags": [f"license:{self.licence}"] if self.licence else []}
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.requests.append((self.command, path, self.headers.get("Range")))
        root = hub.repo if hub.kind == "models" else f"{hub.kind}/{hub.repo}"
        prefix, about = f"/{root}/resolve/{REVISION}/", f"/api/{hub.kind}/{hub.repo}"
        if hub.refuse:
            self._send(hub.refuse[0], b"{}", {"X-Error-Code": hub.refuse[1]}, with_body)
        elif path in (about, f"{about}/revision/{REVISION}"):
            self._send(200, hub.description(), {"Content-Type": "application/json"}, with_body)
        elif path.startswith(prefix) and path.removeprefix(prefix) in hub.files:
            self._send_file(path.removeprefix(prefix), with_body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

    def _send_file(self, name: str, with_body: bool) -> None:
        content = self.hub.files[name]
        git, sha256 = self.hub.sums(name)
        headers = {"X-Repo-Commit": REVISION, "ETag": f'"{sha256 if len(content) >= LARGE else git}"'}
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        broken = with_body and name in self.hub.break_once
        self._send(206 if start else 200, content[start:], headers, with_body, broken)
        self.hub.break_once -= {name} if broken else set()

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], with_body: bool, broken: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body[: len(body) // 2] if broken else body)
        self.close_connection = self.close_connection or broken


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running server with a tiny model, to which the Hub's library is pointed, with an empty cache."""
    import huggingface_hub
    from huggingface_hub import constants

    files = {
        "config.json": b'{"model_type": "gpt2"}',
        "model.safetensors": bytes(range(256)) * 20_000,
        "pytorch_model.bin": b"never wanted",
    }
    hub = FakeHub("someone/tiny", files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    huggingface_hub.close_session()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()
    huggingface_hub.close_session()
