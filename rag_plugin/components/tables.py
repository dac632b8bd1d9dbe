"""Headers of tables: every node of a table names its columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

TABLE_HEADER = "table_header"
"""The metadata key of a table's header. It is part of the text that is encoded and that the LLM reads."""

_MAX_HEADER_CHARACTERS = 400
_DELIMITERS = {".csv": ",;|\t", ".tsv": "\t"}
_MARKDOWN_TABLE = re.compile(r"(?m)^([ \t]*\|?[^\n|]*\|[^\n]*)\n[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)+$")


def header_of_rows(text: str, suffix: str) -> str | None:
    """The column names of a CSV or TSV file; None where the first row is no header."""
    delimiters = _DELIMITERS.get(suffix)
    line = next((line for line in text.splitlines() if line.strip()), "")
    if delimiters is None or len(line) > _MAX_HEADER_CHARACTERS:
        return None
    delimiter = max(delimiters, key=line.count)
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    if len(cells) < 2 or any(not cell or _is_number(cell) for cell in cells):
        return None
    return " | ".join(cells)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d.,:/ %-]+", cell))


def markdown_tables(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, header) of the rows of each Markdown table, the header excluded."""
    if "|" not in text:
        return
    for match in _MARKDOWN_TABLE.finditer(text):
        cells = [cell.strip() for cell in match[1].strip().strip("|").split("|")]
        header = " | ".join(cells)
        end = match.end()
        while True:
            stop = text.find("\n", end + 1)
            line = text[end + 1 : len(text) if stop < 0 else stop]
            if "|" not in line:
                break
            end += 1 + len(line)
            if stop < 0:
                break
        if len(header) <= _MAX_HEADER_CHARACTERS:
            yield match.end(), end, header
