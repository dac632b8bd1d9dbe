"""Documents in, an index in line with them out.

What is committed stays: a run that dies leaves every document in its old or its new version, and the next
run goes on from there. Memory is bounded by the batch.
"""

from .fingerprint import check_index
from .report import SyncReport
from .run import sync

__all__ = ["SyncReport", "check_index", "sync"]
