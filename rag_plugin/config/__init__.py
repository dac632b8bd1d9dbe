"""Configs: one YAML file, checked against the signatures of the components that it names."""

from ..components.registry.section import Section
from .load import load_config
from .model import Config
from .sync_settings import SyncSettings

__all__ = ["Config", "Section", "SyncSettings", "load_config"]
