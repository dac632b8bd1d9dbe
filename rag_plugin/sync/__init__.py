"""Documents in, an index in line with them out.

What is committed stays: a run that dies leaves every document in its old or its new version, and the next
run goes on from there. Memory is bounded by the batch.
"""

from .fingerprint import check_index
from .plan import SyncPlan, plan_sync
from .report import SyncReport
from .run import sync

__all__ = ["SyncPlan", "SyncReport", "check_index", "plan_sync", "sync"]
