"""A model hub on 127.0.0.1 that serves folders: what huggingface_hub asks of the real one, and the ways it fails."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 1_000_000  # bytes; such files are kept by their SHA-256, as the real hub does


@dataclass
class FakeHub:
    """Serves `folders` (hub id → folder).

    After `stall_at` bytes of a large file it says nothing more; after `break_at` bytes it ends the connection.
    """

    url: str
    folders: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    stall_at: int | None = None
    break_at: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)


def _etag(path: Path) -> str:
    content = path.read_bytes()
    if len(content) >= _LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._api("/".join(parts[2:4]), parts[4:])
            elif len(parts) > 4 and parts[2] == "resolve":
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                self._error(404, "EntryNotFound")

        def _refused(self, name: str, revision: str = "main") -> bool:
            if name not in hub.folders:
                self._error(401, "RepoNotFound")
            elif name in hub.gated:
                self._error(403, "GatedRepo")
            elif revision not in ("main", COMMIT):
                self._error(404, "RevisionNotFound")
            else:
                return False
            return True

        def _api(self, name: str, rest: list[str]) -> None:
            revision = rest[1] if len(rest) > 1 else "main"
            if self._refused(name, revision):
                return
            root = hub.folders[name]
            files = sorted(path for path in root.rglob("*") if path.is_file())
            if rest[:1] == ["tree"]:
                self._json([_entry(path, root) for path in files])
                return
            siblings = [{"rfilename": _entry(path, root)["path"], "size": path.stat().st_size} for path in files]
            self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})

        def _file(self, name: str, revision: str, inner: str) -> None:
            if self._refused(name, revision):
                return
            path = hub.folders[name] / inner
            if not path.is_file():
                self._error(404, "EntryNotFound")
                return
            content = path.read_bytes()
            start = 0
            if self.headers.get("Range"):
                hub.ranges.append(f"{inner} {self.headers['Range']}")
                start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{_etag(path)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Accept-Ranges", "bytes")
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            hub.served.append(inner)
            most = hub.stall_at or hub.break_at
            if most is not None and len(content) >= _LARGE:
                self.wfile.write(content[start : start + most])
                self.wfile.flush()
                if hub.stall_at is not None:
                    hub.stalled.set()
                    hub.go_on.wait(60)
                self.close_connection = True
                return
            self.wfile.write(content[start:])

        def _json(self, data: Any) -> None:
            body = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _error(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", f"the fake hub says {code}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def _entry(path: Path, root: Path) -> dict[str, Any]:
    size, etag = path.stat().st_size, _etag(path)
    entry = {"type": "file", "path": path.relative_to(root).as_posix(), "size": size, "oid": etag[:40]}
    return {**entry, "lfs": {"oid": etag, "size": size, "pointerSize": 130}} if size >= _LARGE else entry


@contextmanager
def fake_hub(folders: dict[str, Path]) -> Iterator[FakeHub]:
    """A running hub; its `url` is what HF_ENDPOINT has to be."""
    hub = FakeHub("", folders)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
