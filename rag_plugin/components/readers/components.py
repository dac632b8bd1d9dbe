"""Readers: they load the documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..registry.component import rule

if TYPE_CHECKING:
    from llama_index.core.readers.base import BaseReader


def _separate_folders(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    paths = settings["path"] if isinstance(settings["path"], list) else []
    for first in paths:
        for second in paths:
            if first is not second and second.is_relative_to(first):
                yield "path", f"{second} is inside of {first}, so its files would be read twice", "name one of them"
                return


@rule(_separate_folders)
def directory(
    *,
    path: Annotated[
        Path | Annotated[list[Path], Field(min_length=1)], Field(description="The folder, or a list of folders.")
    ],
    include: Annotated[
        list[str] | None,
        Field(
            min_length=1,
            description="Patterns as in .gitignore, such as `docs/**/*.md`, without regard to case; unset, every "
            "supported file type.",
        ),
    ] = None,
    exclude: Annotated[list[str] | None, Field(description="Patterns of files to leave out, as in .gitignore.")] = None,
    recursive: Annotated[bool, Field(description="Whether to read subfolders.")] = True,
    hidden: Annotated[
        bool, Field(description="Whether to read files and folders whose names start with a dot.")
    ] = False,
    follow_links: Annotated[
        bool, Field(description="Whether to follow symbolic links, which may point outside the folder.")
    ] = False,
) -> BaseReader:
    """The files of a folder: text, Markdown, HTML, and with `rag-plugin[files]` PDF, Word, slides, sheets, e-books."""
    from .directory import DirectoryReader, FoldersReader

    readers = [
        DirectoryReader(
            root, include or (), exclude or (), recursive=recursive, hidden=hidden, follow_links=follow_links
        )
        for root in (path if isinstance(path, list) else [path])
    ]
    return FoldersReader(readers) if isinstance(path, list) else readers[0]


def _text_is_named(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    if settings["text"] == []:
        yield "text", "the list is empty", "name the field that contains the text"


@rule(_text_is_named)
def jsonl(
    *,
    path: Annotated[Path, Field(description="The file, one JSON object a line, in UTF-8.")],
    text: Annotated[
        str | list[str], Field(description="The field that contains the text, or several, joined by a newline.")
    ] = "text",
    id: Annotated[
        str | None,
        Field(description="The field that contains the document's id; unset, the id is a hash of the record."),
    ] = None,
    metadata: Annotated[list[str] | None, Field(description="Fields that become the document's metadata.")] = None,
) -> BaseReader:
    """The records of a JSON Lines file."""
    from .jsonl import JsonlReader

    return JsonlReader(path, text, id, metadata or ())
