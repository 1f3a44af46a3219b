"""Files of a dataset on the Hub: announced, fetched one by one, checked whenever they are asked for."""

from typing import Any

import pytest

from gpt2lab.base import hub_dataset
from gpt2lab.base.errors import UserError
from gpt2lab.base.hub_dataset import HubDataset
from gpt2lab.base.hub_wire import ConnectionLostError

LARGE = bytes(range(256)) * 8000


@pytest.fixture
def texts(hub: Any) -> Any:
    """The server with a dataset instead of a model."""
    hub.kind, hub.repo, hub.licence = "datasets", "someone/texts", "odc-by"
    hub.files = {"b.bin": LARGE, "a.txt": b"once upon a time", "deep/c.bin": LARGE[::-1]}
    return hub


def test_one_file_at_a_time_and_the_second_time_without_the_network(texts: Any, capfd: Any) -> None:
    data = HubDataset.open(texts.repo)
    assert list(data.files) == ["a.txt", "b.bin", "deep/c.bin"]
    assert data.licence == "odc-by"
    assert data.total(data.files) == sum(map(len, texts.files.values()))
    assert texts.downloads() == []
    data.announce(["b.bin", "deep/c.bin"], "as training goes")
    said = capfd.readouterr().err
    assert f"downloading as training goes from {texts.url}/datasets/someone/texts to " in said
    assert said.rstrip().endswith("2 files, 4.1 MB, licence odc-by")
    for name in ("deep/c.bin", "a.txt"):
        assert data.fetch(name, quiet=True).read_bytes() == texts.files[name]
    assert texts.downloads() == ["c.bin", "a.txt"]
    texts.requests.clear()
    again = HubDataset.open(texts.repo)
    assert again.fetch("a.txt").read_bytes() == texts.files["a.txt"]
    assert again.is_here("deep/c.bin")
    assert not again.is_here("b.bin")
    assert texts.requests == []
    again.announce(["a.txt"], "now")
    assert capfd.readouterr().err == ""


def test_what_was_altered_on_the_disk_is_fetched_anew(texts: Any) -> None:
    data = HubDataset.open(texts.repo)
    data.fetch("b.bin", quiet=True).write_bytes(b"altered")
    with pytest.raises(UserError, match=r"b\.bin: the file that arrived has not the checksum"):
        data.fetch("b.bin")
    assert data.fetch("b.bin", quiet=True).read_bytes() == LARGE


def test_a_broken_connection_goes_on_where_it_broke(texts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    texts.break_once = {"b.bin"}
    assert HubDataset.open(texts.repo).fetch("b.bin", quiet=True).read_bytes() == LARGE
    ranges = [asked for method, path, asked in texts.requests if method == "GET" and path.endswith("b.bin")]
    assert ranges == [None, "bytes=1000000-"]


def test_no_network_at_first_and_later(texts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    nowhere = "http://127.0.0.1:9"
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", nowhere)
        with pytest.raises(UserError, match=f"someone/texts is not on this machine, and {nowhere}"):
            HubDataset.open(texts.repo)
    data = HubDataset.open(texts.repo)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionLostError, match=r"b\.bin"):
        data.fetch("b.bin")


def test_a_disk_too_small_is_refused_before_anything_is_fetched(
    texts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HubDataset.open(texts.repo)

    def no_room(folder: object, n_bytes: int, purpose: str) -> None:
        raise UserError(f"{purpose} needs {n_bytes}", fix="Free some")

    monkeypatch.setattr(hub_dataset, "require_free_space", no_room)
    with pytest.raises(UserError, match="someone/texts needs 4096000"):
        data.announce(["b.bin", "deep/c.bin"], "now")
    with pytest.raises(UserError, match=r"someone/texts, b\.bin needs"):
        data.fetch("b.bin")
    assert texts.downloads() == []


def test_no_such_dataset(texts: Any) -> None:
    with pytest.raises(UserError, match="the Hub has no dataset 'someone/else', or it is private"):
        HubDataset.open("someone/else")
