"""The exceptions of rag_plugin.

RagPluginError
├── ConfigError (ValueError)      the config is invalid; `problems` lists every violation with its location
├── ComponentError                a component cannot be built although its settings are valid
│   └── MissingPackage (ImportError)  a package is not installed; the message contains the install command
├── MissingLLM                    the engine has no LLM and the call needs one
├── QuestionError (ValueError)    the question is invalid, e.g. empty
├── DocumentError                 one document cannot be read or split; carries its id
├── EncoderError                  a text could not be encoded: its content, a server or a process is the cause
├── LLMError                      the LLM or its server failed; carries its URL and model
│   ├── ServerUnreachable         no connection to the server
│   ├── NotOllama                 the address belongs to another kind of server
│   ├── ServerTooOld              the Ollama version is not supported
│   ├── ServerBusy                the server rejects requests for the moment
│   ├── AccessRefused             the credentials are missing or wrong
│   ├── ModelMissing              the server has no such model
│   ├── PullFailed                a model could not be downloaded
│   ├── LoadFailed                the model exists and cannot be loaded
│   ├── LLMTimeout                one of three time limits was exceeded; `limit` names the setting
│   ├── AnswerBroken              the answer is incomplete, empty or unreadable
│   ├── ContextOverflow           the prompt is longer than the model's context
│   └── CapabilityMissing         the model lacks a feature such as tools
└── StoreError                    an operation on the index failed
    ├── IndexNotBuilt             no sync has completed
    ├── IndexMismatch             the index was built with other settings; `differences` lists them
    ├── IndexLocked               another process or thread holds the write lock
    └── UnsupportedQuery (NotImplementedError)  the store does not support a feature of the query
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One violation in a config: location, message, and hint.

    `line` and `column` count from 1; they are None for values that are not from a file (an override, a mapping)
    and for a file that cannot be read. `path` is the dotted path of the value, such as `chunker.chunk_size` or
    `rerankers[0].cutoff`, and empty for the file itself.
    """

    file: str
    line: int | None
    column: int | None
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.path) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text}\n    {self.hint}" if self.hint else text


class RagPluginError(Exception):
    """Base class of the exceptions of this package.

    Args:
        message: What is wrong.
        python: What to do about it, for Python code; part of the text of the error.
        shell: The same for the command line; unset, as for Python.
    """

    def __init__(self, message: str = "", *, python: str = "", shell: str = "") -> None:
        super().__init__(message + python)
        self._shell_text = message + shell if shell else None

    @property
    def shell_text(self) -> str:
        """The text for the command line."""
        return getattr(self, "_shell_text", None) or str(self)


class ConfigError(RagPluginError, ValueError):
    """A config is invalid; `problems` lists every violation in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        super().__init__(self._text())

    def _text(self) -> str:
        blocks = []
        for file, group in groupby(self.problems, key=lambda problem: problem.file):
            problems = list(group)
            count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
            lines = [f"{file}: {count}"]
            for problem in problems:
                lines += ["  " + line for line in str(problem).splitlines()]
            blocks.append("\n".join(lines))
        return "\n".join(blocks)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


class ComponentError(RagPluginError):
    """A component cannot be built although its settings are valid."""


class MissingPackage(ComponentError, ImportError):
    """A component needs a package that is not installed."""

    def __init__(self, part: str, package: str, install: str) -> None:
        self.part, self.package, self.install = part, package, install
        super().__init__(f"{part} needs the package {package!r}: pip install {install}")

    def __reduce__(self) -> tuple[type[MissingPackage], tuple[str, str, str]]:
        return type(self), (self.part, self.package, self.install)


class MissingLLM(RagPluginError):
    """The engine has no LLM and the call needs one."""

    def __init__(self) -> None:
        super().__init__(
            "this engine has no LLM, so it cannot generate text; add one to the config, for example  "
            "llm: {type: ollama, model: llama3.2}",
            python="; without an LLM there are retrieve(), and query() with  synthesizer: quote",
            shell="; without an LLM there are `rag-plugin search`, and `rag-plugin ask` with  synthesizer: quote",
        )

    def __reduce__(self) -> tuple[type[MissingLLM], tuple[()]]:
        return type(self), ()


class QuestionError(RagPluginError, ValueError):
    """The question is invalid, e.g. empty."""


class DocumentError(RagPluginError):
    """One document cannot be read or split.

    Args:
        document_id: The document's id.
        reason: Why, as a clause.
        temporary: The cause may lie outside the document, such as a disk or a server. The next sync then reads an
            unchanged document again; otherwise it reports the recorded reason.
    """

    def __init__(self, document_id: str, reason: str, temporary: bool = False) -> None:
        self.document_id, self.reason, self.temporary = document_id, reason, temporary
        super().__init__(f"{document_id}: {reason}")

    def __reduce__(self) -> tuple[type[DocumentError], tuple[str, str, bool]]:
        return type(self), (self.document_id, self.reason, self.temporary)


class LLMError(RagPluginError):
    """The LLM or its server failed.

    Attributes:
        text: The whole message.
        what: The cause alone.
        hint: What to do, "" where that is not known.
        url: Address of the server, without credentials; "" for an LLM in this process.
        model: Name of the model, "" for errors of the server.
    """

    hint: str = ""

    def __init__(self, text: str, url: str = "", model: str = "") -> None:
        self.text, self.url, self.model = text, url, model
        self.what = text
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text, self.url, self.model), {**self.__dict__}


class ServerUnreachable(LLMError):
    """No connection to the server."""


class NotOllama(LLMError):
    """The address belongs to another kind of server."""


class ServerTooOld(LLMError):
    """The server's Ollama version is not supported: it would cut long prompts without notice."""


class ServerBusy(LLMError):
    """The server rejects requests for the moment; `wait` holds the seconds of its Retry-After header, if any."""

    wait: float | None = None


class AccessRefused(LLMError):
    """The credentials are missing or wrong."""


class ModelMissing(LLMError):
    """The server has no model of that name."""


class PullFailed(LLMError):
    """A model could not be downloaded to the server."""


class LoadFailed(LLMError):
    """The server has the model and cannot load it, for lack of memory or another reason."""


class LLMTimeout(LLMError):
    """A time limit was exceeded; `limit` is the name of its setting."""

    limit: str = ""


class AnswerBroken(LLMError):
    """The answer is incomplete, empty or unreadable."""


class ContextOverflow(LLMError):
    """The prompt is longer than the model's context; it was rejected, not cut."""


class CapabilityMissing(LLMError):
    """The model lacks a feature such as tools."""


class EncoderError(RagPluginError):
    """A text could not be encoded."""


class StoreError(RagPluginError):
    """An operation on the index failed."""


class IndexNotBuilt(StoreError):
    """No sync into this index has completed."""


class IndexMismatch(StoreError):
    """The index was built with other settings than those of the config."""

    def __init__(self, path: str, differences: Sequence[str], hint: str, shell_hint: str = "") -> None:
        self.path, self.differences, self.hint = path, list(differences), hint
        listing = "\n".join(f"  {difference}" for difference in self.differences)
        super().__init__(f"{path} was built with other settings:\n{listing}\n", python=hint, shell=shell_hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.differences, self.hint), self.__dict__


class IndexLocked(StoreError):
    """Another process or thread holds the write lock of the index."""


class UnsupportedQuery(StoreError, NotImplementedError):
    """The store does not support a feature of the query."""


def first_names(names: Sequence[str], limit: int) -> str:
    """Names in one line, and how many more there are: `a, b, 3 more`."""
    more = len(names) - limit
    return ", ".join([*names[:limit], *([f"{more} more"] if more > 0 else [])])


def one_line_reason(error: BaseException, *, first_line: bool = False) -> str:
    """The text of a foreign exception as one line.

    Args:
        first_line: Drop everything after the first line.
    """
    text = str(error).strip()
    return " ".join((text.partition("\n")[0] if first_line else text).split()) or "no reason given"


def describe_error(error: BaseException) -> str:
    """Class and text of a foreign exception as one line."""
    return f"{type(error).__name__}: {one_line_reason(error)}"


def has_lone_surrogate(text: str) -> bool:
    """Whether a text contains a lone surrogate, which UTF-8 cannot encode."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
