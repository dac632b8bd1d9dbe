"""HTTP connections that are told what to send, when, and how to break off; only the standard library is needed."""

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
    """A request that came; the headers' names are in lower case, the body is what its JSON says."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


def taken_address(port: int) -> socket.socket:
    """A port of loopback, 0 for a free one, that is taken and not listened at, so that it refuses connections."""
    address = socket.socket()
    address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    address.bind(("127.0.0.1", port))
    return address


class _Gone(Exception):
    """The client closed the connection."""


class _Ended(Exception):
    """The connection is not to be used any more."""


class Listener(ThreadingTCPServer):
    """Listens at an address and has a thread for each connection.

    Args:
        address: From `taken_address`.
        reply: From a request and its raw body to what is sent.
        told: Gets, after each reply, whether the client left before its end.
    """

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(
        self, address: socket.socket, reply: Callable[[Request, bytes], Reply], told: Callable[[bool], None]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Connection, bind_and_activate=False)
        self.socket.close()
        self.socket = address
        self.server_address = address.getsockname()
        self.reply, self.told = reply, told
        self.ending, self._wake = socket.socketpair()  # becomes readable when the server ends
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.ended = False
        self.server_activate()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        """Take connections until `end`; runs in a thread of its own."""
        while self.ending not in select.select([self.socket, self.ending], [], [])[0]:
            with contextlib.suppress(OSError):
                self.process_request(*self.get_request())

    def end(self) -> None:
        """Break all connections off and listen no more."""
        self._wake.send(b"x")
        self._thread.join()
        with self.lock:
            self.ended = True
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self.ending.close()
        self._wake.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that leave are no errors of a server's; anything else is one of this class.
        if not isinstance(sys.exc_info()[1], (ConnectionError, _Ended)):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.add(self.connection)
            if self.server.ended:  # between the two, nobody broke this one off
                self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        body: Any = None
        with contextlib.suppress(ValueError):
            body = json.loads(raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.reply(Request(self.command, self.path.partition("?")[0], headers, body), raw)
        try:
            self._send(reply)
        except (_Gone, ConnectionError):
            self.close_connection = True
            self.server.told(True)
        except _Ended:
            self.close_connection = True
            self.server.told(False)
        else:
            self.server.told(False)

    do_GET = do_HEAD = do_POST = _answer

    def _send(self, reply: Reply) -> None:
        head: bytes | None = self._head(reply)
        for piece in reply.pieces:
            if isinstance(piece, Wait):
                self._wait(piece.seconds)
                continue
            if piece is Moment.RESET:
                # Closing with data that may linger for no time at all sends a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._close()
            if piece is Moment.CLOSE:
                self._close()
            self._wait(0)
            data = b""
            if isinstance(piece, bytes) and self.command != "HEAD":
                data = piece if reply.length is not None else b"%x\r\n%b\r\n" % (len(piece), piece)
            self.connection.sendall((head or b"") + data)
            head = None
        end = b"0\r\n\r\n" if reply.length is None and self.command != "HEAD" else b""
        if head or end:
            self.connection.sendall((head or b"") + end)

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
        self.rfile.close()  # or the connection would stay open for it
        self.connection.close()
        raise _Ended

    def _wait(self, seconds: float | None) -> None:
        """Wait, unless the client leaves or the server ends before."""
        until = None if seconds is None else time.monotonic() + seconds
        watched: list[socket.socket] = [self.connection, self.server.ending]
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready = select.select(watched, [], [], left)[0]
            if self.server.ending in ready:
                raise _Ended
            if self.connection in ready:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise _Gone
                watched.remove(self.connection)  # the next request waits there already
            elif not ready or not left:
                return
