"""A small server that answers as the Hugging Face Hub does, for downloads on this machine."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".ckpt", ".pth", ".pt", ".bin")
"""Endings of files that the hub keeps in Git LFS, with a SHA-256."""


class FakeHub:
    """Repositories by ``models/owner/name`` or ``datasets/owner/name``: file -> bytes.

    ``gated`` holds repositories that refuse; ``cut`` maps a file to the number of bytes after
    which its next download breaks off; about a repository that is ``dead`` the connection is lost
    without an answer; ``commits`` are where repositories' main branches are; ``asked`` lists
    (method, path, range) of every request.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.cut: dict[str, int] = {}
        self.dead: set[str] = set()
        self.commits: dict[str, str] = {}
        self.spoiled: set[str] = set()
        self.asked: list[tuple[str, str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Answer with a body."""
                hub.answer(self, send_body=True)

            def do_HEAD(self) -> None:
                """Answer without one."""
                hub.answer(self, send_body=False)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, *, send_body: bool) -> None:
        """Answer one request."""
        path = unquote(urlparse(request.path).path)
        self.asked.append((request.command, path, request.headers.get("Range", "")))
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            self._describe(request, parts[1:])
        else:
            kind = "models" if parts[0] != "datasets" else "datasets"
            owner = parts if kind == "models" else parts[1:]
            repository, name = "/".join((kind, *owner[:2])), "/".join(owner[4:])
            self._resolve(request, repository, name, owner[3], send_body)

    def _refused(self, request: BaseHTTPRequestHandler, repository: str) -> bool:
        if repository in self.gated:
            self._send(request, 403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif repository not in self.repositories:
            self._send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        else:
            return False
        return True

    def _describe(self, request: BaseHTTPRequestHandler, parts: list[str]) -> None:
        repository = "/".join(parts[:3])
        if repository in self.dead:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if self._refused(request, repository):
            return
        files = self.repositories[repository]
        if len(parts) > 3 and parts[3] == "tree":
            content: object = [self._entry("path", name, data) for name, data in files.items()]
        else:
            siblings = [self._entry("rfilename", name, data) for name, data in files.items()]
            asked = parts[4] if len(parts) > 4 else self.commits.get(repository, COMMIT)
            content = {"id": "/".join(parts[1:3]), "sha": asked, "siblings": siblings}
        self._send(request, 200, json.dumps(content).encode())

    @staticmethod
    def _entry(key: str, name: str, data: bytes) -> dict[str, object]:
        entry: dict[str, object] = {
            "type": "file",
            key: name,
            "size": len(data),
            "oid": git_blob(data),
            "blobId": git_blob(data),
        }
        if name.endswith(LARGE):
            digest = hashlib.sha256(data).hexdigest()
            large = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 130}
            entry["lfs"] = large
        return entry

    def _resolve(
        self,
        request: BaseHTTPRequestHandler,
        repository: str,
        name: str,
        commit: str,
        send_body: bool,
    ) -> None:
        if self._refused(request, repository):
            return
        data = self.repositories[repository].get(name)
        if data is None:
            self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        etag = hashlib.sha256(data).hexdigest() if name.endswith(LARGE) else git_blob(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if name in self.spoiled:
            data = bytes(len(data))
        start = int((request.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        status = 200
        if start:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if send_body and name in self.cut:
            self._send(request, status, body, headers, only=self.cut.pop(name))
        else:
            self._send(request, status, body, headers, only=None if send_body else 0)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        only: int | None = None,
    ) -> None:
        request.send_response(status)
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body if only is None else body[:only])
        if only:  # a broken connection
            request.wfile.flush()
            request.close_connection = True


def git_blob(data: bytes) -> str:
    """Return git's SHA-1 of a file."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
