"""An Ollama server without a model: real HTTP on loopback, recorded answers, and faults on request.

Imports the standard library only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import recorded
from .connections import Listener, Request, bound_socket
from .counting import prompt_tokens, tokens
from .faults import Fault
from .model import Answer, AnswerSource, answer_lines, has_type, joined, line_of, truncated_tokens, vector
from .replies import Piece, Reply, Wait, delayed, error_reply, json_line, json_reply, whole_reply


@dataclass
class _PendingFault:
    fault: Fault
    times: int | None


class FakeOllama:
    """An Ollama server on a free port of loopback that answers like version 0.17.4, without a model.

    It enforces the context: a longer prompt is rejected where the request has `truncate: false`, and truncated
    otherwise. Tokens are counted by `rag_plugin.testing.tokens`. Requests are served concurrently; a real server queues
    some of them. Use it in a `with` block, or call `start` and `close`; see `rag_plugin.testing`.

    Args:
        answer: The answer to every chat, or a function of the request's body.
        models: Names of its models.
        pullable: Names of models that /api/pull can download.
        capabilities: Capabilities of the models: `completion`, `tools`, `thinking`.
        context_length: Maximum context of the models in tokens.
        seconds_per_token: Pause after each token.
        load_seconds: Time to load a model; it is loaded again when `num_ctx` changes.
        version: Answer of /api/version.
        port: The port to listen on; 0 for a free one.

    Attributes:
        cancelled: Replies that the client ended early.
        finished: Replies that were sent completely.
        loads: How often a model was loaded.
    """

    def __init__(
        self,
        answer: AnswerSource = "Yes, I can.",
        *,
        models: Sequence[str] = ("fake:latest",),
        pullable: Sequence[str] = (),
        capabilities: Sequence[str] = ("completion",),
        context_length: int = 8192,
        seconds_per_token: float = 0.0,
        load_seconds: float = 0.0,
        version: str = recorded.VERSION,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.models = list(models)
        self.pullable = list(pullable)
        self.capabilities = list(capabilities)
        self.context_length = context_length
        self.seconds_per_token = seconds_per_token
        self.load_seconds = load_seconds
        self.version = version
        self.cancelled = self.finished = self.loads = 0
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._loaded: dict[str, int] = {}
        self._faults: dict[str, list[_PendingFault]] = {}
        self._listener: Listener | None = None
        self._socket = bound_socket(port)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __repr__(self) -> str:
        return f"<FakeOllama {self.url}>"

    # ------------------------------------------------------------------ start and stop

    def __enter__(self) -> FakeOllama:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen; after `stop`, on the same port."""
        if self._listener is None:
            self._listener = Listener(self._socket, self._reply, self._on_end)

    def stop(self) -> None:
        """Break all connections and refuse new ones, like a server that was killed."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
            self._socket = bound_socket(self.port)

    def close(self) -> None:
        """Stop and release the port."""
        self.stop()
        self._socket.close()

    # ------------------------------------------------------------------ for tests

    def fail(self, fault: Fault, *, times: int | None = 1, path: str = "/api/chat") -> None:
        """Apply a fault to the next `times` replies of a path, None for all; several faults form a queue."""
        with self._changed:
            self._faults.setdefault(path, []).append(_PendingFault(fault, times))

    def recover(self) -> None:
        """Remove all faults."""
        with self._changed:
            self._faults.clear()

    @property
    def requests(self) -> list[Request]:
        """All requests received."""
        with self._changed:
            return list(self._requests)

    def bodies(self, path: str = "/api/chat") -> list[Any]:
        """The bodies of the requests to a path."""
        return [request.body for request in self.requests if request.path == path]

    def wait_until(self, condition: Callable[[FakeOllama], bool], seconds: float = 1.0) -> bool:
        """Wait until a condition holds: `wait_until(lambda s: s.cancelled == 1)`; false after `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), seconds)

    # ------------------------------------------------------------------ replies

    def _reply(self, request: Request, raw: bytes) -> Reply:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
            queue = self._faults.get(request.path, [])
            pending = queue[0] if queue else None
            if pending is not None and pending.times is not None:
                pending.times -= 1
                if pending.times <= 0:
                    queue.pop(0)
        reply = self._reply_without_fault(request, raw)
        return reply if pending is None else pending.fault(reply)

    def _on_end(self, client_left: bool) -> None:
        with self._changed:
            self.cancelled += client_left
            self.finished += not client_left
            self._changed.notify_all()

    def _reply_without_fault(self, request: Request, raw: bytes) -> Reply:
        get = {"/": self._root, "/api/version": self._version, "/api/tags": self._tags, "/api/ps": self._ps}
        post = {"/api/show": self._show, "/api/chat": self._chat, "/api/embed": self._embed, "/api/pull": self._pull}
        if request.path not in get and request.path not in post:
            return whole_reply(404, b"404 page not found", recorded.PLAIN)
        allowed = "HEAD, GET" if request.path in get else "POST"
        if request.method not in allowed.split(", "):
            return whole_reply(405, b"405 method not allowed", {**recorded.PLAIN, "Allow": allowed})
        if request.path in get:
            return get[request.path]()
        if not raw:
            return error_reply(400, recorded.NO_BODY)
        if not isinstance(request.body, dict):
            return error_reply(400, "invalid character in the request")
        return post[request.path](request.body)

    def _root(self) -> Reply:
        return whole_reply(200, b"Ollama is running", {"Content-Type": "text/plain; charset=utf-8"})

    def _version(self) -> Reply:
        return json_reply({"version": self.version})

    def _tags(self) -> Reply:
        return json_reply({"models": [recorded.listed(name) for name in self.models]})

    def _ps(self) -> Reply:
        return json_reply({"models": [recorded.running(name, length) for name, length in self._loaded.items()]})

    def _show(self, body: Mapping[str, Any]) -> Reply:
        if self._name(body) is None:
            return error_reply(404, recorded.MISSING % body.get("model"))
        return json_reply(recorded.shown(self.context_length, self.capabilities))

    def _pull(self, body: Mapping[str, Any]) -> Reply:
        name, is_stream = _tagged(str(body.get("model") or "")), body.get("stream") is not False
        if not name:
            return error_reply(400, "invalid model name")
        if name in map(_tagged, self.pullable):
            self.models.append(name)
            lines = recorded.pulling()
        elif is_stream:
            lines = [{"status": "pulling manifest"}, {"error": recorded.NOT_PULLED}]
        else:
            return error_reply(500, recorded.NOT_PULLED)
        return Reply(pieces=tuple(map(json_line, lines))) if is_stream else json_reply(lines[-1])

    def _embed(self, body: Mapping[str, Any]) -> Reply:
        if self._name(body) is None:
            return error_reply(404, recorded.MISSING_FOR_EMBEDDING % body.get("model"))
        texts = body.get("input") or []
        texts = [texts] if isinstance(texts, str) else list(texts)
        refused = _refused(body)
        if refused is not None:
            return refused
        context = self._context(body.get("options") or {})
        counts = [len(tokens(text)) for text in texts]
        if body.get("truncate") is False and any(count > context for count in counts):
            return error_reply(400, recorded.TOO_LONG)
        data = {"model": body["model"], "embeddings": [vector(text) for text in texts]}
        if texts:
            count = sum(min(count, context) for count in counts)
            data |= {"total_duration": 1, "load_duration": 1, "prompt_eval_count": count}
        return json_reply(data)

    def _chat(self, body: Mapping[str, Any]) -> Reply:
        model, name = str(body.get("model") or ""), self._name(body)
        options, messages, tools = body.get("options") or {}, body.get("messages") or [], body.get("tools") or []
        if not model:
            return error_reply(400, recorded.NO_MODEL)
        if name is None:
            return error_reply(404, recorded.MISSING % model)
        if body.get("think") and "thinking" not in self.capabilities:
            return error_reply(400, recorded.NO_THINKING % model)
        if tools and "tools" not in self.capabilities:
            return error_reply(400, recorded.NO_TOOLS % model)
        refused = _refused(body)
        if refused is not None:
            return refused
        context = self._context(options)
        if not messages:
            unload = body.get("keep_alive") == 0
            seconds = self._load(name, None if unload else context)
            done = {**line_of(model), "done": True, "done_reason": "unload" if unload else "load"}
            return delayed(json_reply(done), seconds)
        seconds = self._load(name, context)
        prompt = prompt_tokens(messages, tools)
        if prompt > context:
            if body.get("truncate") is False:
                return delayed(error_reply(400, recorded.TOO_LONG), seconds)
            prompt = truncated_tokens(messages, context)
        answer = self.answer(body) if callable(self.answer) else self.answer
        answer = Answer(answer) if isinstance(answer, str) else answer
        lines = answer_lines(answer, body, prompt=prompt, context=context)
        pause: tuple[Piece, ...] = (Wait(self.seconds_per_token),) if self.seconds_per_token else ()
        if pause:
            lines[-1]["eval_duration"] = round(lines[-1]["eval_count"] * self.seconds_per_token * 1e9)
        if body.get("stream") is False:
            return delayed(json_reply(joined(lines)), seconds)
        pieces = [piece for line in lines for piece in (json_line(line), *(() if line["done"] else pause))]
        return delayed(Reply(pieces=tuple(pieces)), seconds)

    # ------------------------------------------------------------------ models

    def _name(self, body: Mapping[str, Any]) -> str | None:
        """The full name of the request's model; None where the server lacks it."""
        name = _tagged(str(body.get("model") or ""))
        return name if name in map(_tagged, self.models) else None

    def _context(self, options: Mapping[str, Any]) -> int:
        return min(int(options.get("num_ctx") or 4096), self.context_length)

    def _load(self, name: str, context: int | None) -> float:
        """Load the model, or with None unload it; returns the seconds it takes."""
        with self._changed:
            if context is None:
                self._loaded.pop(name, None)
            elif self._loaded.get(name) != context:
                self._loaded[name] = context
                self.loads += 1
                return self.load_seconds
            return 0.0


def _refused(body: Mapping[str, Any]) -> Reply | None:
    """The server's reply to values of a wrong form."""
    duration = recorded.refused_keep_alive(body.get("keep_alive"))
    if duration is not None:
        return error_reply(400, duration)
    options = body.get("options") or {}
    for option, kind in recorded.OPTION_TYPES.items():
        if options.get(option) is not None and not has_type(options[option], kind):
            return error_reply(500, recorded.WRONG_TYPE % (option, kind))
    return None


def _tagged(name: str) -> str:
    return name if not name or ":" in name.rpartition("/")[2] else f"{name}:latest"
