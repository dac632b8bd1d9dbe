"""Brings a store in line with the documents.

Every commit is durable: an interrupted sync leaves each document in its old or its new version, and the next sync
continues. Memory is bounded by the batch.
"""

from .fingerprint import check_index
from .plan import SyncPlan, plan_sync
from .report import SyncReport, documents
from .run import sync

__all__ = ["SyncPlan", "SyncReport", "check_index", "documents", "plan_sync", "sync"]
