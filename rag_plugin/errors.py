"""Every exception that rag_plugin raises on purpose.

RagPluginError
├── ConfigError (ValueError)      the file is wrong; `problems` lists everything that is, with its place
├── ComponentError                a part cannot be built from right settings
│   └── MissingPackage (ImportError)  ... because a package is not installed; the text says which to install
├── MissingLLM                    a question that needs an LLM was put to an engine that has none
├── QuestionError (ValueError)    the question itself is unusable, e.g. empty
├── DocumentError                 one document cannot be read or cut; carries its id
├── EncoderError                  a text could not be encoded: the text, a server or a process is at fault
├── LLMError                      the LLM's server or model did not answer as it should; carries its URL and model
│   ├── ServerUnreachable         nothing answers there
│   ├── NotOllama                 something else answers there
│   ├── ServerBusy                the server turns requests away
│   ├── AccessRefused             the server wants other credentials
│   ├── ModelMissing              the server has no such model
│   ├── PullFailed                a model could not be downloaded
│   ├── LoadFailed                the model is there and cannot be loaded
│   ├── LLMTimeout                one of three times ran out; `limit` names the setting
│   ├── AnswerBroken              the answer broke off, is empty, or is none
│   ├── ContextOverflow           the prompt is longer than the model's context
│   └── CapabilityMissing         the model cannot do what was asked, such as tools
└── StoreError                    the index cannot do what was asked
    ├── IndexNotBuilt             nothing was ever synced into it
    ├── IndexMismatch             it was built by other settings; `differences` names them
    ├── IndexLocked               another process writes to it
    └── UnsupportedQuery (NotImplementedError)  a query asks for something this store does not do
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config, where it stands, and what to do about it.

    `line` and `column` count from 1; they are None where the value did not come from a file's text
    (an override, a mapping, a file that cannot be read at all). `path` is the dotted path of the
    value, such as `chunker.chunk_size` or `rerankers[0].cutoff`, and empty for the file as a whole.
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
    """Base of every exception that this package raises on purpose."""


class ConfigError(RagPluginError, ValueError):
    """A config is wrong; `problems` holds all that is wrong with it, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        super().__init__(self._text())

    def _text(self) -> str:
        blocks = []
        for file, group in groupby(self.problems, key=lambda problem: problem.file):
            found = list(group)
            count = f"{len(found)} problem" + ("s" if len(found) != 1 else "")
            lines = [f"{file}: {count}"]
            for problem in found:
                lines += ["  " + line for line in str(problem).splitlines()]
            blocks.append("\n".join(lines))
        return "\n".join(blocks)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


class ComponentError(RagPluginError):
    """A part cannot be built although its settings are right."""


class MissingPackage(ComponentError, ImportError):
    """A part needs a package that is not installed."""

    def __init__(self, part: str, package: str, install: str) -> None:
        self.part, self.package, self.install = part, package, install
        super().__init__(f"{part} needs the package {package!r}: pip install {install}")

    def __reduce__(self) -> tuple[type[MissingPackage], tuple[str, str, str]]:
        return type(self), (self.part, self.package, self.install)


class MissingLLM(RagPluginError):
    """A question needs an LLM and the config names none."""

    def __init__(self) -> None:
        super().__init__(
            "this engine has no LLM, so it finds passages (retrieve, or `rag-plugin search`) but cannot write answers; "
            "add one to the config, for example  llm: {type: ollama, model: llama3.2}"
        )


class QuestionError(RagPluginError, ValueError):
    """The question cannot be used as it is."""


class DocumentError(RagPluginError):
    """One document cannot be read or cut."""

    def __init__(self, document_id: str, reason: str) -> None:
        self.document_id, self.reason = document_id, reason
        super().__init__(f"{document_id}: {reason}")

    def __reduce__(self) -> tuple[type[DocumentError], tuple[str, str]]:
        return type(self), (self.document_id, self.reason)


class LLMError(RagPluginError):
    """The LLM did not answer as it should; `url` and `model` say which.

    `what` says what is wrong and `hint` what to do, where that is known; the text has both.
    """

    hint: str = ""

    def __init__(self, text: str, url: str = "", model: str = "") -> None:
        self.text, self.url, self.model = text, url, model
        self.what = text
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text, self.url, self.model), {**self.__dict__}


class ServerUnreachable(LLMError):
    """Nothing answers at the server's address."""


class NotOllama(LLMError):
    """Something answers at the server's address, and it is no Ollama server."""


class ServerBusy(LLMError):
    """The server turns requests away for the moment; `wait` is how many seconds it asks for, if it does."""

    wait: float | None = None


class AccessRefused(LLMError):
    """The server wants other credentials than it got."""


class ModelMissing(LLMError):
    """The server has no model of that name."""


class PullFailed(LLMError):
    """A model could not be downloaded to the server."""


class LoadFailed(LLMError):
    """The server has the model and cannot load it, for want of memory or otherwise."""


class LLMTimeout(LLMError):
    """A time ran out; `limit` is the setting that holds it."""

    limit: str = ""


class AnswerBroken(LLMError):
    """The answer broke off, is empty, or is nothing that can be read."""


class ContextOverflow(LLMError):
    """The prompt is longer than the model's context; nothing was cut off in silence."""


class CapabilityMissing(LLMError):
    """The model cannot do what was asked of it."""


class EncoderError(RagPluginError):
    """A text could not be encoded."""


class StoreError(RagPluginError):
    """The index cannot do what was asked of it."""


class IndexNotBuilt(StoreError):
    """Nothing was ever synced into this index."""


class IndexMismatch(StoreError):
    """The index was built by other settings than those it is opened with."""

    def __init__(self, path: str, differences: Sequence[str], hint: str) -> None:
        self.path, self.differences, self.hint = path, list(differences), hint
        listing = "\n".join(f"  {difference}" for difference in self.differences)
        super().__init__(f"{path} was built by other settings:\n{listing}\n{hint}")

    def __reduce__(self) -> tuple[type[IndexMismatch], tuple[str, list[str], str]]:
        return type(self), (self.path, self.differences, self.hint)


class IndexLocked(StoreError):
    """Another process or thread is writing to the index."""


class UnsupportedQuery(StoreError, NotImplementedError):
    """A query asks for something that this store does not do; nothing is ignored in silence."""
