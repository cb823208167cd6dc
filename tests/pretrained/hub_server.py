"""A Hugging Face hub on the loopback interface, with the part of its protocol that downloads of single files use.

    with HubServer() as server:
        server.add("timm/resnet18.a1_in1k", {"config.json": b"...", "model.safetensors": b"..."})
        server.become_the_hub(monkeypatch, cache=tmp_path)      # in this process
        subprocess.run(..., env=server.environment(tmp_path))   # in another

Like the hub it sends small files itself and redirects weights to another address, with size and ETag in the answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

COMMIT = "1234567890abcdef1234567890abcdef12345678"


def model_files(architecture: str = "resnet18", num_classes: int = 3, size: int = 50_000) -> dict[str, bytes]:
    """A small config.json and model.safetensors."""
    config = {"architecture": architecture, "num_classes": num_classes, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    weights = save({"fc.weight": np.arange(size, dtype=np.float32), "fc.bias": np.zeros(3, np.float32)})
    return {"config.json": json.dumps(config).encode(), "model.safetensors": weights}


class HubServer:
    """Serves repositories until `stop`; `requests` lists what was asked: ("GET", "timm/resnet18/model.safetensors")."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.bytes_sent = 0
        self._repositories: dict[str, tuple[str, dict[str, bytes]]] = {}
        self._refusals: dict[str, tuple[int, str]] = {}
        self._cuts: dict[str, list[tuple[int, bool]]] = {}
        self._connections: list[socket.socket] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Closes the port and all connections: from now on they are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # closed by the client already
                connection.shutdown(socket.SHUT_RDWR)

    def add(self, repo_id: str, files: Mapping[str, bytes], commit: str = COMMIT) -> None:
        """Publishes a repository, its branch main at this commit; again: a new commit in place of the old one."""
        self._repositories[repo_id] = (commit, dict(files))

    def refuse(self, repo_id: str, status: int, error_code: str = "") -> None:
        """Answers everything about a repository with this status: 403 "GatedRepo", 503, ..."""
        self._refusals[repo_id] = (status, error_code)

    def cut(self, repo_id: str, filename: str, after: int, times: int = 1, reset: bool = False) -> None:
        """Breaks the next `times` transfers of a file off after so many bytes: connection closed, or reset."""
        self._cuts[f"{repo_id}/{filename}"] = [(after, reset)] * times

    def transfers(self, filename: str) -> int:
        """How often a file's contents were asked for."""
        return sum(method == "GET" and path.endswith(filename) for method, path in self.requests)

    def environment(self, cache: Path, **more: str) -> dict[str, str]:
        """Environment variables for a process that shall take this server for the hub."""
        kept = {
            key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))
        }
        mine = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return kept | mine | more

    def become_the_hub(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Points huggingface_hub, which reads its environment on import, to this server and to a cache of its own."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub._connections.append(self.connection)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        asked = re.fullmatch(r"/(?:(?P<cdn>cdn)/)?(?P<repo>.+?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self.path)
        if asked is None:
            return self._error(404, "")
        repo_id, filename = asked["repo"], asked["file"]
        self.hub.requests.append((self.command, f"{repo_id}/{filename}"))
        if repo_id in self.hub._refusals:
            return self._error(*self.hub._refusals[repo_id])
        if repo_id not in self.hub._repositories:
            return self._error(404, "RepoNotFound")
        commit, files = self.hub._repositories[repo_id]
        if asked["revision"] not in ("main", commit):
            return self._error(404, "RevisionNotFound")
        if filename not in files:
            return self._error(404, "EntryNotFound", commit)
        if asked["cdn"] or filename.endswith(".json"):
            return self._send_file(f"{repo_id}/{filename}", files[filename], commit)
        return self._redirect(files[filename], commit)

    def _error(self, status: int, code: str, commit: str = COMMIT) -> None:
        self._start(status, {"X-Error-Code": code, "X-Repo-Commit": commit, "Content-Length": "0"})

    def _redirect(self, content: bytes, commit: str) -> None:
        size, etag = str(len(content)), f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"Location": f"{self.hub.url}/cdn{self.path}", "X-Linked-Size": size, "X-Linked-ETag": etag}
        self._start(302, headers | {"X-Repo-Commit": commit, "Content-Length": "0"})

    def _send_file(self, name: str, content: bytes, commit: str) -> None:
        begin = 0
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        if span := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            begin = int(span[1])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._start(206 if span else 200, headers | {"Content-Length": str(len(content) - begin)})
        if self.command == "GET":
            self._send_body(name, content[begin:])

    def _send_body(self, name: str, content: bytes) -> None:
        if not (cuts := self.hub._cuts.get(name)):
            self.hub.bytes_sent += len(content)  # before the client has them: it may look at once
            self.wfile.write(content)
            return
        after, reset = cuts.pop()
        self.hub.bytes_sent += after
        self.wfile.write(content[:after])
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
