"""Vocabularies: words from a file or from the texts of an index, and their vectors, which are kept."""

from __future__ import annotations

import logging
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import QuestionError
from .cache import VectorCache
from .space import Piece, Space, encode, same_text
from .spans import word_spans

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

_log = logging.getLogger(__package__)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file, each once, without those that are blank.

    Raises:
        QuestionError: There is no such file, it is not UTF-8, or nothing is in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise QuestionError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise QuestionError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8, a text a line") from error
    lines = list(dict.fromkeys(line for line in (line.strip() for line in text.splitlines()) if line))
    if not lines:
        raise QuestionError(f"{path} is empty; write a text a line")
    return lines


def read_concepts(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Concepts from a YAML or JSON file: names, each with a list of examples.

    Raises:
        QuestionError: There is no such file, or something else is in it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    form = f"{os.fspath(path)}: write names with lists of examples, such as  fruit: [apple, pear, plum]"
    try:
        # JSON is YAML too.
        data = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise QuestionError(f"{os.fspath(path)}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        first = " ".join(str(error).split())
        raise QuestionError(f"{form} ({first})") from error
    if not isinstance(data, dict) or not data:
        raise QuestionError(form)
    for name, examples in data.items():
        if not isinstance(examples, list) or not examples:
            raise QuestionError(f"{form} ({name!r} has no list)")
    return {str(name): [str(example) for example in examples] for name, examples in data.items()}


def words_of(
    texts: Iterable[str], most: int | None = None, *, by: Literal["frequency", "weight"] = "frequency"
) -> list[str]:
    """The words of some texts, each once in its most frequent form, without numbers and single letters.

    Args:
        texts: Such as those of an index's nodes.
        most: How many are wanted; unset, all.
        by: What comes first: `frequency` is how often a word occurs; `weight` is that times the square of the
            logarithm of all texts by the texts it is in, so that words which are everywhere come last.
    """
    forms: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    count = 0
    for text in texts:
        found = [text[start:end] for start, end in word_spans(text)]
        forms.update(found)
        spread.update({same_text(word) for word in found})
        count += 1
    frequency: Counter[str] = Counter()
    written: dict[str, str] = {}
    for form, times in sorted(forms.items(), key=lambda item: (-item[1], item[0].swapcase())):
        letters = [character for character in form if character.isalpha()]
        if len(letters) > 1 or (letters and unicodedata.category(letters[0]) == "Lo"):
            name = same_text(form)
            written.setdefault(name, form)
            frequency[name] += times
    weight = {
        name: times * (math.log((1 + count) / spread[name]) ** 2 if by == "weight" else 1.0)
        for name, times in frequency.items()
    }
    order = sorted(frequency, key=lambda name: (-weight[name], name))
    return [written[name] for name in order[:most]]


def encode_vocabulary(encoder: BaseEmbedding, words: Sequence[str], *, cache: bool = True) -> Space:
    """Give words their vectors, each word read alone; those that the cache knows are not encoded again.

    Args:
        encoder: Any LlamaIndex embedding.
        words: Read as they are written.
        cache: Keep the vectors in the user's cache folder, for the next time.
    """
    if not cache or not words:
        return encode(encoder, words)
    kept = VectorCache.of(encoder)
    unique = list(dict.fromkeys(words))
    known = kept.read(unique)
    new = [word for word in unique if word not in known]
    if new:
        space = encode(encoder, new)
        known.update(zip(new, space.vectors))
        kept.write(new, space.vectors)
    return Space(tuple(Piece(word) for word in words), np.stack([known[word] for word in words]))
