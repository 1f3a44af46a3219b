from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gpt2lab.base.download import fetch_from_hub
from gpt2lab.base.errors import UserError


def choose(names: Sequence[str]) -> list[str]:
    if "model.safetensors" not in names:
        raise UserError("there are no weights", fix="Choose another")
    return [name for name in names if not name.endswith(".bin")]


def weights_in(tmp_path: Path) -> Path:
    return next((tmp_path / "cache").glob("models--*/snapshots/*/model.safetensors"))


@pytest.fixture
def offline(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there


def test_announced_fetched_and_then_used_without_the_network(hub: Any, capfd: Any) -> None:
    folder = fetch_from_hub(hub.repo, choose)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    said = capfd.readouterr().err
    first_line = said.splitlines()[0]
    assert f"downloading someone/tiny from {hub.url} to " in first_line
    assert first_line.endswith("2 files, 5.1 MB")
    hub.requests.clear()
    assert fetch_from_hub(hub.repo, choose) == folder
    assert hub.requests == []
    assert capfd.readouterr().err == ""


def test_first_one_file_then_all(hub: Any, tmp_path: Path) -> None:
    """As for a tokenizer, then its model: nothing is fetched twice, and the revision stays the first one."""

    def small(names: Sequence[str]) -> list[str]:
        return ["config.json"]

    folder = fetch_from_hub(hub.repo, small)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert hub.downloads() == ["config.json"]
    assert fetch_from_hub(hub.repo, choose) == folder
    assert hub.downloads() == ["config.json", "model.safetensors"]
    hub.requests.clear()
    for chosen in (small, choose):
        assert fetch_from_hub(hub.repo, chosen) == folder
    assert hub.requests == []
    (folder / "config.json").write_bytes(b"altered")
    with pytest.raises(UserError, match="not what was first downloaded"):
        fetch_from_hub(hub.repo, choose)


def test_a_broken_connection_is_resumed_where_it_broke(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what was received is kept in such pieces
    hub.break_once = {"model.safetensors"}
    folder = fetch_from_hub(hub.repo, choose)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    ranges = [asked for method, path, asked in hub.requests if method == "GET" and "safetensors" in path]
    assert ranges == [None, "bytes=2500000-"]  # of the 2,560,000 bytes received before it broke


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_not_what_the_hub_describes_is_refused_and_deleted(hub: Any, name: str) -> None:
    content = hub.files[name]
    hub.described = {name: content[:-1] + b"?"}
    for _ in range(2):  # not taken from the cache the second time, either
        with pytest.raises(UserError, match=f"{name}: the file that arrived has not the checksum"):
            fetch_from_hub(hub.repo, choose)
    assert hub.downloads().count(name) == 2
    hub.described = {}
    assert (fetch_from_hub(hub.repo, choose) / name).read_bytes() == content


def test_a_file_altered_in_the_cache_is_noticed(hub: Any, tmp_path: Path) -> None:
    fetch_from_hub(hub.repo, choose)
    weights = weights_in(tmp_path)
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        UserError, match=r"model\.safetensors: the file is not what was first downloaded.*Delete"
    ):
        fetch_from_hub(hub.repo, choose)


def test_a_file_lost_from_the_cache_is_fetched_again(hub: Any, tmp_path: Path) -> None:
    folder = fetch_from_hub(hub.repo, choose)
    weights_in(tmp_path).resolve().unlink()
    hub.requests.clear()
    assert fetch_from_hub(hub.repo, choose) == folder
    assert hub.downloads() == ["model.safetensors"]


def test_a_file_lost_and_replaced_on_the_hub_is_noticed(hub: Any, tmp_path: Path) -> None:
    """The revision and the sums of the first download are what counts, not what the Hub says today."""
    fetch_from_hub(hub.repo, choose)
    weights_in(tmp_path).resolve().unlink()
    hub.files["model.safetensors"] = bytes(5_000_000)
    with pytest.raises(UserError, match="not what was first downloaded"):
        fetch_from_hub(hub.repo, choose)


def test_no_network_and_nothing_here(hub: Any, offline: None) -> None:
    with pytest.raises(UserError) as caught:
        fetch_from_hub(hub.repo, choose)
    assert "someone/tiny is not on this machine, and http://127.0.0.1:9 cannot be reached" in str(
        caught.value
    )
    assert "download the model on another machine" in caught.value.fix


def test_no_network_and_everything_here(hub: Any, request: pytest.FixtureRequest) -> None:
    folder = fetch_from_hub(hub.repo, choose)
    request.getfixturevalue("offline")
    assert fetch_from_hub(hub.repo, choose) == folder


def test_told_to_stay_offline(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="is not on this machine"):
        fetch_from_hub(hub.repo, choose)
    assert hub.requests == []


def cache_as_another_program_would(tmp_path: Path, files: dict[str, bytes], revision: str) -> Path:
    """The layout that `transformers` leaves, which stores no sums."""
    home = tmp_path / "cache/models--someone--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(revision)
    folder = home / "snapshots" / revision
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_what_another_program_downloaded_is_used_offline(hub: Any, offline: None, tmp_path: Path) -> None:
    folder = cache_as_another_program_would(tmp_path, hub.files, "f" * 40)
    assert fetch_from_hub(hub.repo, choose) == folder
    (folder / "config.json").write_bytes(b"altered")  # its sums were written down, too
    with pytest.raises(UserError, match="not what was first downloaded"):
        fetch_from_hub(hub.repo, choose)


def test_half_a_model_from_another_program_is_not_enough(hub: Any, offline: None, tmp_path: Path) -> None:
    cache_as_another_program_would(tmp_path, {"config.json": b"{}"}, "f" * 40)
    with pytest.raises(UserError, match="is not on this machine"):
        fetch_from_hub(hub.repo, choose)


def test_a_model_the_hub_does_not_have(hub: Any) -> None:
    with pytest.raises(UserError, match="the Hub has no model 'someone/other', or it is private"):
        fetch_from_hub("someone/other", choose)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "only for those who have accepted its terms"),
        ((500, ""), "the Hub refused"),
        ((429, ""), "the Hub refused"),
    ],
)
def test_a_hub_that_says_no(hub: Any, refusal: tuple[int, str], message: str) -> None:
    hub.refuse = refusal
    with pytest.raises(UserError, match=message):
        fetch_from_hub(hub.repo, choose)


def test_a_model_without_what_is_wanted(hub: Any) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(UserError, match="there are no weights"):
        fetch_from_hub(hub.repo, choose)
    assert hub.downloads() == []


def test_a_disk_without_room(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="someone/tiny needs 5 MB and the disk has 1 MB free"):
        fetch_from_hub(hub.repo, choose)
    assert hub.downloads() == []


def test_telemetry_is_off(hub: Any) -> None:
    from huggingface_hub import constants

    fetch_from_hub(hub.repo, choose)
    assert constants.HF_HUB_DISABLE_TELEMETRY is True
