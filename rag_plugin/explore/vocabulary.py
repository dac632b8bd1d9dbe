"""Vocabularies: words from a file or from the texts of an index, and their cached vectors."""

from __future__ import annotations

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import QuestionError, one_line_reason
from .cache import VectorCache
from .space import Piece, Space, encode, normalized
from .spans import word_spans

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The distinct lines of a text file, without blank ones.

    Raises:
        QuestionError: The file cannot be read, is not UTF-8, or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise QuestionError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise QuestionError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8, one text per line") from error
    lines = list(dict.fromkeys(filter(None, map(str.strip, text.splitlines()))))
    if not lines:
        raise QuestionError(f"{path} is empty; write one text per line")
    return lines


def read_concepts(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Concepts from a YAML or JSON file: names, each with a list of examples.

    Raises:
        QuestionError: The file cannot be read, or its content has another form.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    form = f"{path}: write names with lists of examples, such as  fruit: [apple, pear, plum]"
    try:
        # JSON is a subset of YAML.
        data = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise QuestionError(f"{path}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise QuestionError(f"{form} ({one_line_reason(error)})") from error
    if not isinstance(data, dict) or not data:
        raise QuestionError(form)
    for name, examples in data.items():
        if not isinstance(examples, list) or not examples:
            raise QuestionError(f"{form} ({name!r} has no list)")
    return {str(name): [str(example) for example in examples] for name, examples in data.items()}


def words_of(
    texts: Iterable[str], limit: int | None = None, *, by: Literal["frequency", "weight"] = "frequency"
) -> list[str]:
    """The distinct words of texts in their most frequent spelling, without numbers and single letters.

    Args:
        texts: Such as those of an index's nodes.
        limit: Maximum number of words; None: all.
        by: The order, descending: `frequency`, or `weight`, which is the frequency times the squared inverse document
            frequency, so that common words come last.
    """
    spellings: Counter[str] = Counter()
    document_frequency: Counter[str] = Counter()
    count = 0
    for text in texts:
        words = [text[start:end] for start, end in word_spans(text)]
        spellings.update(words)
        document_frequency.update({normalized(word) for word in words})
        count += 1
    frequency: Counter[str] = Counter()
    spelling_of: dict[str, str] = {}
    for spelling, times in sorted(spellings.items(), key=lambda item: (-item[1], item[0].swapcase())):
        letters = [character for character in spelling if character.isalpha()]
        if len(letters) > 1 or (letters and unicodedata.category(letters[0]) == "Lo"):  # Lo: such as Chinese characters
            word = normalized(spelling)
            spelling_of.setdefault(word, spelling)
            frequency[word] += times
    weight: dict[str, float] = dict(frequency)
    if by == "weight":
        weight = {word: n * math.log((1 + count) / document_frequency[word]) ** 2 for word, n in frequency.items()}
    order = sorted(weight, key=lambda word: (-weight[word], word))
    return [spelling_of[word] for word in order[:limit]]


def encode_vocabulary(encoder: BaseEmbedding, words: Sequence[str], *, cache: bool = True) -> Space:
    """Encode words, each alone; cached ones are not encoded again.

    Args:
        encoder: Any LlamaIndex embedding.
        words: Encoded in this spelling.
        cache: Store the vectors in the user's cache folder.
    """
    if not cache or not words:
        return encode(encoder, words)
    vector_cache = VectorCache.of(encoder)
    distinct = list(dict.fromkeys(words))
    vectors = vector_cache.read(distinct)
    missing = [word for word in distinct if word not in vectors]
    if missing:
        space = encode(encoder, missing)
        vectors.update(zip(missing, space.vectors))
        vector_cache.write(missing, space.vectors)
    return Space(tuple(Piece(word) for word in words), np.stack([vectors[word] for word in words]))
