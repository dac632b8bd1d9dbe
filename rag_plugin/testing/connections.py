"""HTTP connections of the fake server, which can wait and break at any point. Imports the standard library only."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from .replies import Moment, Reply, Wait


@dataclass(frozen=True)
class Request:
    """A received request; header names are in lower case, the body is parsed JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


def bound_socket(port: int) -> socket.socket:
    """A socket bound to a port of loopback, 0 for a free one; it refuses connections until it listens."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class _ClientLeft(Exception):
    """The client closed the connection."""


class _ConnectionEnded(Exception):
    """The server closed the connection."""


class Listener(ThreadingTCPServer):
    """Accepts connections, each served by its own thread.

    Args:
        bound: From `bound_socket`.
        reply: Returns the reply to a request and its raw body.
        on_end: Called after each reply; true where the client disconnected before its end.
    """

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(
        self, bound: socket.socket, reply: Callable[[Request, bytes], Reply], on_end: Callable[[bool], None]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Connection, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.server_address = bound.getsockname()
        self.reply, self.on_end = reply, on_end
        self.stopping, self._stop = socket.socketpair()  # `stopping` becomes readable at the end
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.stopped = False
        self.server_activate()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while self.stopping not in select.select([self.socket, self.stopping], [], [])[0]:
            with contextlib.suppress(OSError):
                self.process_request(*self.get_request())

    def stop(self) -> None:
        """Break all connections and stop listening."""
        self._stop.send(b"x")
        self._thread.join()
        with self.lock:
            self.stopped = True
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self.stopping.close()
        self._stop.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that disconnects is not a server error.
        if not isinstance(sys.exc_info()[1], (ConnectionError, _ConnectionEnded)):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.add(self.connection)
            if self.server.stopped:  # accepted too late for `stop` to break it
                self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body: Any = None
        with contextlib.suppress(ValueError):
            body = json.loads(raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.reply(Request(self.command, self.path.partition("?")[0], headers, body), raw)
        client_left = False
        try:
            self._send(reply)
        except (_ClientLeft, ConnectionError):
            self.close_connection = client_left = True
        except _ConnectionEnded:
            self.close_connection = True
        self.server.on_end(client_left)

    do_GET = do_HEAD = do_POST = _serve

    def _send(self, reply: Reply) -> None:
        unsent = self._head(reply)
        has_body = self.command != "HEAD"
        for piece in reply.pieces:
            if isinstance(piece, Wait):
                self._wait(piece.seconds)
                continue
            if piece is Moment.RESET:
                # Closing with a linger time of zero sends a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if piece in (Moment.RESET, Moment.CLOSE):
                self._close()
            self._wait(0)
            if isinstance(piece, bytes) and has_body:
                unsent += piece if reply.length is not None else b"%x\r\n%b\r\n" % (len(piece), piece)
            self.connection.sendall(unsent)
            unsent = b""
        if reply.length is None and has_body:
            unsent += b"0\r\n\r\n"
        if unsent:
            self.connection.sendall(unsent)

    def _head(self, reply: Reply) -> bytes:
        reason = self.responses.get(reply.status, ("",))[0]
        headers = {**reply.headers, "Date": self.date_time_string()}
        if reply.length is None:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(reply.length)
        lines = [f"HTTP/1.1 {int(reply.status)} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _close(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        self.rfile.close()  # it would keep the connection open
        self.connection.close()
        raise _ConnectionEnded

    def _wait(self, seconds: float | None) -> None:
        """Wait until the time is over, the client leaves, or the server stops."""
        until = None if seconds is None else time.monotonic() + seconds
        watched: list[socket.socket] = [self.connection, self.server.stopping]
        while True:
            remaining = None if until is None else max(0.0, until - time.monotonic())
            ready = select.select(watched, [], [], remaining)[0]
            if self.server.stopping in ready:
                raise _ConnectionEnded
            if self.connection in ready:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise _ClientLeft
                watched.remove(self.connection)  # the client has sent its next request
            elif not ready or not remaining:
                return
