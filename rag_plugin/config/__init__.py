"""Settings: one YAML file, checked against the signatures of the components it names."""

from .check import check_config
from .model import Config, Section, SyncSettings, load_config

__all__ = ["Config", "Section", "SyncSettings", "check_config", "load_config"]
