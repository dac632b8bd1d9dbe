"""The commands that show what the encoder makes of texts: similarity, analogy, nearest, map."""

from . import analogy, map, nearest, similarity

__all__ = ["analogy", "map", "nearest", "similarity"]
