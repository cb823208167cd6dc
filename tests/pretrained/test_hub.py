from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pretrained.hub_server import COMMIT, HubServer, model_files
from safetensors.numpy import load_file

from jaxtl.errors import InputError
from jaxtl.pretrained import hub

REPO = "timm/resnet18.a1_in1k"
ROOT = Path(hub.__file__).parents[2]


@pytest.fixture
def server(monkeypatch, tmp_path):
    import huggingface_hub

    with HubServer() as server:
        server.become_the_hub(monkeypatch, tmp_path)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the waits between retries
        monkeypatch.setattr(socket.socket, "connect", connect_to_loopback_only)
        yield server
        huggingface_hub.close_session()


def connect_to_loopback_only(self, address, connect=socket.socket.connect):
    assert address[0] == "127.0.0.1", f"a request to {address} leaves the machine"
    connect(self, address)


def damage(folder: Path, kept: int = 1000) -> None:
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:kept])


def test_downloads_config_and_weights_of_one_commit(server):
    files = model_files()
    server.add(REPO, {**files, "pytorch_model.bin": b"large", "README.md": b"text"})

    folder = hub.fetch(REPO)

    assert folder.name == COMMIT
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert hub.read_config(folder)["architecture"] == "resnet18"
    assert load_file(folder / "model.safetensors")["fc.weight"][7] == 7


def test_second_fetch_transfers_nothing(server):
    server.add(REPO, model_files())
    folder = hub.fetch(REPO)
    sent = server.bytes_sent
    del server.requests[:]

    assert hub.fetch(REPO) == folder
    assert server.bytes_sent == sent
    assert server.requests == [("HEAD", f"{REPO}/config.json")]


def test_new_commit_is_fetched_and_a_file_that_was_missing_is_found(server):
    server.add(REPO, {})
    with pytest.raises(InputError, match="has no file"):
        hub.fetch(REPO)
    server.add(REPO, model_files(num_classes=4), commit="f" * 40)
    folder = hub.fetch(REPO)
    assert folder.name == "f" * 40
    server.add(REPO, model_files(num_classes=5, size=10), commit="e" * 40)
    assert hub.read_config(hub.fetch(REPO))["num_classes"] == 5
    assert load_file(hub.fetch(REPO) / "model.safetensors")["fc.weight"].size == 10
    assert hub.fetch(REPO, revision="f" * 40) == folder


def test_revision_is_kept_apart_and_commit_needs_no_question(server):
    server.add(REPO, model_files())
    folder = hub.fetch(REPO, revision=COMMIT)
    del server.requests[:]

    assert hub.fetch(REPO, revision=COMMIT) == folder
    assert server.requests == []


@pytest.mark.parametrize("how", ["server stopped", "HF_HUB_OFFLINE", "local_files_only"])
def test_cache_is_enough_without_a_network(server, monkeypatch, how):
    server.add(REPO, model_files())
    folder = hub.fetch(REPO)
    del server.requests[:]
    if how == "server stopped":
        server.stop()
    if how == "HF_HUB_OFFLINE":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    assert hub.fetch(REPO, local_files_only=how == "local_files_only") == folder
    assert server.requests == []


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_interrupted_transfer_is_completed(server, reset):
    files = model_files(size=500_000)
    server.add(REPO, files)
    server.cut(REPO, "model.safetensors", after=700_000, times=2, reset=reset)

    folder = hub.fetch(REPO)

    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert server.transfers("model.safetensors") == 3


def test_closed_connection_is_resumed_where_it_broke_off(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # what is kept of a broken transfer
    files = model_files(size=500_000)
    server.add(REPO, files)
    server.cut(REPO, "model.safetensors", after=1_500_000)

    hub.fetch(REPO)

    assert server.bytes_sent < 1.01 * sum(map(len, files.values()))


def test_transfer_that_always_breaks_off_is_told(server):
    server.add(REPO, model_files())
    server.cut(REPO, "model.safetensors", after=0, times=1000, reset=True)
    with pytest.raises(InputError, match=rf"'{REPO}' is not whole in the cache, and {server.url} cannot be read"):
        hub.fetch(REPO)


@pytest.mark.parametrize("kept", [0, 5, 100, 100_000, -1])
def test_truncated_weights_in_the_cache_are_downloaded_again(server, kept):
    files = model_files()
    server.add(REPO, files)
    damage(hub.fetch(REPO), kept)

    folder = hub.fetch(REPO)

    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert server.transfers("model.safetensors") == 2


def test_broken_config_in_the_cache_is_downloaded_again(server):
    server.add(REPO, model_files())
    config = (hub.fetch(REPO) / "config.json").resolve()
    config.write_bytes(config.read_bytes()[:20])

    assert hub.read_config(hub.fetch(REPO))["num_classes"] == 3


@pytest.mark.parametrize("how", ["server stopped", "HF_HUB_OFFLINE"])
def test_truncated_weights_without_a_network_name_the_file_to_delete(server, monkeypatch, how):
    server.add(REPO, model_files())
    folder = hub.fetch(REPO)
    damage(folder)
    if how == "server stopped":
        server.stop()
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(InputError, match=r"model.safetensors is damaged.*could not be downloaded again") as error:
        hub.fetch(REPO)
    assert f"Delete {(folder / 'model.safetensors').resolve()}" in str(error.value)


def test_weights_that_are_damaged_on_the_hub_are_told_once_downloaded_twice(server):
    files = model_files()
    server.add(REPO, {**files, "model.safetensors": files["model.safetensors"][:-8]})
    with pytest.raises(InputError, match=r"is damaged .*downloading it again did not help"):
        hub.fetch(REPO)
    assert server.transfers("model.safetensors") == 2


def test_unknown_repository_names_the_nearest(server):
    with pytest.raises(InputError, match=r"no hub repository 'timm/resnet18.a1_in1kk'.*'timm/resnet18.a1_in1k'"):
        hub.fetch("timm/resnet18.a1_in1kk")


def test_other_answers_of_the_hub(server):
    server.add(REPO, {"config.json": model_files()["config.json"]})
    server.add("me/empty", {})
    server.add("me/gated", model_files())
    server.refuse("me/gated", 403, "GatedRepo")
    server.refuse("me/private", 401)
    server.refuse("me/forbidden", 403)
    server.refuse("me/busy", 503)
    expected = {
        (REPO, "v2"): "has no revision 'v2'",
        (REPO, None): "no weights: neither model.safetensors nor pytorch_model.bin",
        ("me/empty", None): "has no file 'config.json'",
        ("me/gated", None): f"is gated: ask for access on {server.url}/me/gated",
        ("me/private", None): "'me/private' on .* private and needs `hf auth login`",
        ("me/forbidden", None): "refuses access to 'me/forbidden'",
        ("me/busy", None): "the hub answers 503",
        ("not a/repo/name", None): "'not a/repo/name' cannot be the name of a hub repository",
    }
    for (repo_id, revision), message in expected.items():
        with pytest.raises(InputError) as error:
            hub.fetch(repo_id, revision=revision)
        assert re.search(message, str(error.value)), str(error.value)


def test_pickle_only_where_there_are_no_safetensors(server, monkeypatch):
    server.add("me/old", {"config.json": model_files()["config.json"], "pytorch_model.bin": b"pickle"})
    assert (hub.fetch("me/old") / "pytorch_model.bin").read_bytes() == b"pickle"
    assert (hub.fetch("me/old", local_files_only=True) / "pytorch_model.bin").is_file()

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"only with torch: pip install 'jaxtl\[timm\]'"):
        hub.fetch("me/old")


def test_not_cached_and_offline_says_how_to_prepare(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"'{REPO}' is not in the cache .*HF_HUB_OFFLINE is set.*`hf download {REPO} "):
        hub.fetch(REPO)
    assert server.requests == []


def test_refused_connection_is_told_quickly(server):
    server.stop()
    begin = time.monotonic()
    with pytest.raises(InputError, match=f"{server.url} cannot be read.*check the network, the proxy and HF_ENDPOINT"):
        hub.fetch(REPO)
    assert time.monotonic() - begin < 5


def test_server_that_is_no_hub_is_told(server):
    server.refuse(REPO, 200)  # as the login page of a wireless network does
    with pytest.raises(InputError, match="HF_ENDPOINT"):
        hub.fetch(REPO)


def test_folder_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    server.add(REPO, model_files())
    with pytest.raises(InputError, match=r"cannot store config.json .*HF_HOME"):
        hub.fetch(REPO)


def test_environment_variables_in_a_process_of_its_own(tmp_path):
    script = f"from jaxtl.pretrained import hub; print(hub.fetch({REPO!r}))"

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-c", script]
        env = server.environment(tmp_path, **more)
        return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)

    with HubServer() as server:
        server.add(REPO, model_files())
        online = run()
        asked = len(server.requests)
        offline = run(HF_HUB_OFFLINE="1")
        elsewhere = run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "elsewhere"))

    assert online.stderr == offline.stderr == ""
    assert online.stdout == offline.stdout == f"{tmp_path}/hub/models--timm--resnet18.a1_in1k/snapshots/{COMMIT}\n"
    assert len(server.requests) == asked
    assert f"`hf download {REPO} config.json model.safetensors` puts it there" in elsewhere.stderr
