"""Uploads, to a hub on the loopback interface."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from small_models import small_model

import jaxtl
from jaxtl.cli import main
from jaxtl.errors import InputError
from jaxtl.pretrained.push import PUSHED, push


class Hub:
    """Takes uploads; what was asked and what arrived is kept.

    Attributes:
        created: bodies of the requests to make a repository.
        commits: (repository, path -> contents), one a commit.
        refusal: a status that answers everything instead.
    """

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.tokens: set[str | None] = set()
        self.refusal: int | None = None
        self._large: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/api/repos/create":
            made = json.loads(body)
            self.created.append(made)
            name = "/".join(filter(None, [made.get("organization"), made["name"]]))
            return {"url": f"{self.url}/{name}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = json.loads(body)["files"]
            return {
                "files": [{"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False} for f in files]
            }
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.url}/large/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        if path.startswith("/large/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/large/")
            self._large[path.removeprefix("/large/")] = body
            return {}
        match = re.fullmatch(r"/api/models/(.+)/commit/main", path)
        if match is None:  # what the client asks besides
            return {}
        files = {}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self._large[line["value"]["oid"]]
        self.commits.append((match[1], files))
        return {"commitUrl": f"{self.url}/{match[1]}/commit/{'0' * 40}", "commitOid": "0" * 40, "success": True}


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        body = self._body()
        self.hub.tokens.add(self.headers.get("Authorization"))
        status = self.hub.refusal or 200
        answer = {"error": "this token may only read"} if self.hub.refusal else self.hub.answer(self.path, body)
        written = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    import huggingface_hub
    from huggingface_hub import constants

    hub = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    huggingface_hub.close_session()
    yield hub
    hub.stop()
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    model = small_model("resnet10t").replace(license="apache-2.0")
    return jaxtl.export(model, tmp_path_factory.mktemp("exported") / "out")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's HTTP library
def test_the_three_files_are_pushed_in_one_commit(hub, folder, capsys) -> None:
    (folder / "notes.txt").write_text("mine")
    assert main(["push", str(folder), "ann/flowers", "--private"]) == 0
    assert capsys.readouterr().out == f"{hub.url}/ann/flowers\n"
    (made,) = hub.created
    assert (made["organization"], made["name"]) == ("ann", "flowers")
    assert made.get("private") or made.get("visibility") == "private"  # by version of the client
    ((repository, files),) = hub.commits
    assert repository == "ann/flowers"
    names = ("README.md", "config.json", "model.safetensors")
    assert files == {name: (folder / name).read_bytes() for name in names}
    assert "Bearer hf_test" in hub.tokens


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"does not let you write to 'ann/flowers' \(401: .*\): run `hf auth login`"),
        (403, r"\(403: .*this token may only read.*\): run `hf auth login` or set HF_TOKEN"),
        (500, r"the hub answers 500 for 'ann/flowers'"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, message: str, hub, folder) -> None:
    hub.refusal = status
    with pytest.raises(InputError, match=message):
        push(folder, "ann/flowers")


def test_a_hub_that_is_not_there(hub, folder) -> None:
    hub.stop()
    with pytest.raises(InputError, match=r"127\.0\.0\.1.* cannot be reached .*; check the network and HF_ENDPOINT"):
        push(folder, "ann/flowers")


def test_what_is_no_exported_folder_is_refused_before_anything_is_sent(hub, folder, tmp_path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        push(tmp_path, "ann/flowers")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(InputError, match=r"has no model\.safetensors: push takes a folder that `jaxtl export` wrote"):
        push(tmp_path, "ann/flowers")
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"has no model card .*`jaxtl export .* OUT` writes one"):
        push(tmp_path, "ann/flowers")
    model = small_model("resnet10t", until="layer1")
    hub_format = jaxtl.export(model, tmp_path / "out", "jaxtl")
    assert sorted(path.name for path in hub_format.iterdir()) == sorted(PUSHED)
    with pytest.raises(InputError, match="cannot be the name of a hub repository"):
        push(folder, "ann/flowers/and/more")
    assert not hub.created
