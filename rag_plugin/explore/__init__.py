"""What an encoder makes of texts: how near they are, what can be calculated with them, where they lie.

Everything here takes any LlamaIndex embedding, and numpy arrays go in and out. A `Space` is pieces of text with their
vectors; it comes from texts (`encode`, `encode_pieces`, `encode_concepts`, `encode_vocabulary`) or from an index
(`node_space`, `document_space`). It tells what is near (`Space.similarity`, `Space.nearest`, `analogy`) and can be
drawn (`make_map`, then `map_page` for HTML or `write_map` for PNG; `write_heatmap`).
"""

from .analogy import analogy, sum_of
from .contextual import TokenVectors, token_vectors
from .expression import Expression, Term, parse_expression
from .index import document_space, node_space
from .map import Group, Hit, Map, MapQuery, make_map
from .page import map_page
from .picture import write_heatmap, write_map
from .pieces import GRANULARITIES, Granularity, encode_concepts, encode_pieces, vector_of
from .projection import METHODS, Method, Projection, project
from .space import Neighbour, Piece, Space, encode
from .spans import character_spans, find_spans, sentence_spans, word_spans
from .vocabulary import encode_vocabulary, read_concepts, read_lines, words_of

__all__ = [
    "GRANULARITIES",
    "METHODS",
    "MapQuery",
    "Expression",
    "Granularity",
    "Group",
    "Hit",
    "Map",
    "Method",
    "Neighbour",
    "Piece",
    "Projection",
    "Space",
    "Term",
    "TokenVectors",
    "analogy",
    "character_spans",
    "document_space",
    "encode",
    "encode_concepts",
    "encode_pieces",
    "encode_vocabulary",
    "find_spans",
    "make_map",
    "map_page",
    "node_space",
    "parse_expression",
    "project",
    "read_concepts",
    "read_lines",
    "sentence_spans",
    "sum_of",
    "token_vectors",
    "vector_of",
    "word_spans",
    "words_of",
    "write_heatmap",
    "write_map",
]
