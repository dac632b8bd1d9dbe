"""An Ollama server without a model: real HTTP on loopback, the answers of a real one, and faults where a test wants
them. Only the standard library is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import recorded
from .connections import Listener, Request, taken_address
from .counting import prompt_tokens, tokens
from .faults import Fault
from .model import Answer, Says, answer_lines, fitting, joined, of_type, started, vector
from .replies import Reply, Wait, error_reply, later, line, not_allowed, object_reply, whole


@dataclass
class _Pending:
    fault: Fault
    times: int | None


@dataclass
class _State:
    """What happened, for all threads."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    requests: list[Request] = field(default_factory=list)
    finished: int = 0
    cancelled: int = 0
    loads: int = 0
    loaded: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[_Pending]] = field(default_factory=dict)


class FakeOllama:
    """An Ollama server on a free port of loopback that answers as version 0.17.4 does, without a model.

    It enforces the context: a longer prompt is refused where the request says `truncate: false`, and cut in silence
    otherwise. Tokens are counted by `rag_plugin.testing.tokens`. Requests are answered side by side, where a real
    server has some of them wait. Use it in a `with`, or call `start` and `close`; see `rag_plugin.testing`.

    Args:
        says: The answer to every chat, or a function from the request's body to it.
        models: The names of the models that it has.
        pullable: The names of models that /api/pull can download.
        capabilities: What the models can do: `completion`, `tools`, `thinking`.
        context_length: The models' limit, in tokens.
        seconds_per_token: How long each token takes.
        load_seconds: How long a model takes to load; it is loaded again where `num_ctx` changes.
        version: What /api/version says.
        old: Whether it is a version from before `truncate` and `shift`: it passes over them and cuts in silence.
        port: Where to listen; 0 for a free port.
    """

    def __init__(
        self,
        says: Says = "Yes, I can.",
        *,
        models: Sequence[str] = ("fake:latest",),
        pullable: Sequence[str] = (),
        capabilities: Sequence[str] = ("completion",),
        context_length: int = 8192,
        seconds_per_token: float = 0.0,
        load_seconds: float = 0.0,
        version: str = recorded.VERSION,
        old: bool = False,
        port: int = 0,
    ) -> None:
        self.says = says
        self.models = list(models)
        self.pullable = list(pullable)
        self.capabilities = list(capabilities)
        self.context_length = context_length
        self.seconds_per_token = seconds_per_token
        self.load_seconds = load_seconds
        self.version = version
        self.old = old
        self._state = _State()
        self._server: Listener | None = None
        self._address = taken_address(port)
        self.port = int(self._address.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __repr__(self) -> str:
        return f"<FakeOllama {self.url}>"

    # ------------------------------------------------------------------ life

    def __enter__(self) -> FakeOllama:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen; after `stop` at the same address again."""
        if self._server is None:
            self._server = Listener(self._address, self._reply, self._told)

    def stop(self) -> None:
        """Break all connections off and refuse new ones, as a server that was killed."""
        if self._server is not None:
            self._server.end()
            self._server = None
            self._address = taken_address(self.port)

    def close(self) -> None:
        """Stop, and give the address free."""
        self.stop()
        self._address.close()

    # ------------------------------------------------------------------ what a test says

    def fail(self, fault: Fault, *, times: int | None = 1, path: str = "/api/chat") -> None:
        """Spoil the next replies to a path: `times` of them, or all for None. Faults wait for their turn in a row."""
        with self._state.changed:
            self._state.faults.setdefault(path, []).append(_Pending(fault, times))

    def recover(self) -> None:
        """Forget all faults."""
        with self._state.changed:
            self._state.faults.clear()

    # ------------------------------------------------------------------ what a test asks

    @property
    def requests(self) -> list[Request]:
        """All requests since it was made."""
        with self._state.changed:
            return list(self._state.requests)

    def bodies(self, path: str = "/api/chat") -> list[Any]:
        """The bodies of the requests to a path."""
        return [request.body for request in self.requests if request.path == path]

    @property
    def cancelled(self) -> int:
        """How many replies the client let go of before they were finished."""
        return self._state.cancelled

    @property
    def finished(self) -> int:
        """How many replies were sent to their end."""
        return self._state.finished

    @property
    def loads(self) -> int:
        """How often a model was loaded."""
        return self._state.loads

    def wait_until(self, what: Callable[[FakeOllama], bool], seconds: float = 1.0) -> bool:
        """Whether `what` is true of the server within so many seconds: `wait_until(lambda s: s.cancelled == 1)`."""
        with self._state.changed:
            return self._state.changed.wait_for(lambda: what(self), seconds)

    # ------------------------------------------------------------------ replies

    def _reply(self, request: Request, raw: bytes) -> Reply:
        with self._state.changed:
            self._state.requests.append(request)
            self._state.changed.notify_all()
            pending = self._state.faults.get(request.path, [])
            fault = pending[0] if pending else None
            if fault is not None and fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    pending.pop(0)
        reply = self._sound_reply(request, raw)
        return reply if fault is None else fault.fault(reply)

    def _sound_reply(self, request: Request, raw: bytes) -> Reply:
        reading = {"/": self._root, "/api/version": self._version, "/api/tags": self._tags, "/api/ps": self._ps}
        writing = {
            "/api/show": self._show,
            "/api/chat": self._chat,
            "/api/embed": self._embed,
            "/api/pull": self._pull,
        }
        if request.path in reading:
            return reading[request.path]() if request.method in ("GET", "HEAD") else not_allowed("HEAD, GET")
        if request.path not in writing:
            return whole(404, b"404 page not found", recorded.PLAIN)
        if request.method != "POST":
            return not_allowed("POST")
        if not raw:
            return error_reply(400, recorded.NO_BODY)
        if not isinstance(request.body, dict):
            return error_reply(400, "invalid character in the request")
        return writing[request.path](request.body)

    def _root(self) -> Reply:
        return whole(200, b"Ollama is running", {"Content-Type": "text/plain; charset=utf-8"})

    def _version(self) -> Reply:
        return object_reply({"version": self.version})

    def _tags(self) -> Reply:
        return object_reply({"models": [recorded.listed(name) for name in self.models]})

    def _ps(self) -> Reply:
        loaded = self._state.loaded.items()
        return object_reply({"models": [recorded.running(name, length) for name, length in loaded]})

    def _show(self, body: Mapping[str, Any]) -> Reply:
        name = self._named(body)
        if name is None:
            return error_reply(404, recorded.MISSING % body.get("model"))
        return object_reply(recorded.shown(name, self.context_length, self.capabilities))

    def _pull(self, body: Mapping[str, Any]) -> Reply:
        name = str(body.get("model") or "")
        if not name:
            return error_reply(400, "invalid model name")
        if _tagged(name) in map(_tagged, self.pullable):
            self.models.append(_tagged(name))
            found = recorded.pulling()
        else:
            if body.get("stream") is False:
                return error_reply(500, recorded.NOT_PULLED)
            found = [{"status": "pulling manifest"}, {"error": recorded.NOT_PULLED}]
        return object_reply(found[-1]) if body.get("stream") is False else Reply(pieces=tuple(map(line, found)))

    def _embed(self, body: Mapping[str, Any]) -> Reply:
        name = self._named(body)
        if name is None:
            return error_reply(404, recorded.MISSING_FOR_EMBEDDING % body.get("model"))
        given = body.get("input") or []
        texts = [given] if isinstance(given, str) else list(given)
        context = self._context(dict(body.get("options") or {}))
        counts = [len(tokens(text)) for text in texts]
        if body.get("truncate") is False and any(count > context for count in counts):
            return error_reply(400, recorded.TOO_LONG)
        found = {"model": body["model"], "embeddings": [vector(text) for text in texts]}
        if texts:
            found |= {
                "total_duration": 1,
                "load_duration": 1,
                "prompt_eval_count": sum(min(count, context) for count in counts),
            }
        return object_reply(found)

    def _chat(self, body: Mapping[str, Any]) -> Reply:
        if not body.get("model"):
            return error_reply(400, recorded.NO_MODEL)
        asked = str(body["model"])
        name = self._named(body)
        if name is None:
            return error_reply(404, recorded.MISSING % asked)
        if body.get("think") and "thinking" not in self.capabilities:
            return error_reply(400, recorded.NO_THINKING % asked)
        if body.get("tools") and "tools" not in self.capabilities:
            return error_reply(400, recorded.NO_TOOLS % asked)
        options = dict(body.get("options") or {})
        for option, kind in recorded.OPTION_TYPES.items():
            if options.get(option) is not None and not of_type(options[option], kind):
                return error_reply(500, recorded.WRONG_TYPE % (option, kind))
        messages = list(body.get("messages") or [])
        context = self._context(options)
        if not messages:
            unload = body.get("keep_alive") == 0
            waits = self._load(name, None if unload else context)
            done = {**started(asked), "done": True, "done_reason": "unload" if unload else "load"}
            return later(object_reply(done), waits)
        waits = self._load(name, context)
        prompt = prompt_tokens(messages, body.get("tools") or ())
        if prompt > context:
            if body.get("truncate") is False and not self.old:
                return later(error_reply(400, recorded.TOO_LONG), waits)
            prompt = fitting(messages, context)
        said = self.says(body) if callable(self.says) else self.says
        answer = Answer(said) if isinstance(said, str) else said
        shift = self.old or body.get("shift") is not False
        lines = answer_lines(answer, body, prompt=prompt, context=context, shift=shift)
        if self.seconds_per_token:
            lines[-1]["eval_duration"] = round(lines[-1]["eval_count"] * self.seconds_per_token * 1e9)
        if body.get("stream") is False:
            return later(object_reply(joined(lines)), waits)
        pieces: list[Any] = []
        for item in lines:
            pieces.append(line(item))
            if self.seconds_per_token and not item["done"]:
                pieces.append(Wait(self.seconds_per_token))
        return later(Reply(pieces=tuple(pieces)), waits)

    # ------------------------------------------------------------------ models

    def _named(self, body: Mapping[str, Any]) -> str | None:
        name = _tagged(str(body.get("model") or ""))
        return name if name in map(_tagged, self.models) else None

    def _context(self, options: Mapping[str, Any]) -> int:
        return min(int(options.get("num_ctx") or 4096), self.context_length)

    def _load(self, name: str, context: int | None) -> float:
        """Load the model, or for None forget it; the seconds that it takes."""
        with self._state.changed:
            if context is None:
                self._state.loaded.pop(name, None)
                return 0.0
            if self._state.loaded.get(name) == context:
                return 0.0
            self._state.loaded[name] = context
            self._state.loads += 1
            return self.load_seconds

    # ------------------------------------------------------------------ told by the connections

    def _told(self, cancelled: bool) -> None:
        with self._state.changed:
            if cancelled:
                self._state.cancelled += 1
            else:
                self._state.finished += 1
            self._state.changed.notify_all()


def _tagged(name: str) -> str:
    return name if not name or ":" in name.rpartition("/")[2] else f"{name}:latest"
