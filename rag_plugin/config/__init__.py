"""Settings: one YAML file, checked against the signatures of the components it names."""

from ..components.registry.section import Section
from .load import load_config
from .model import Config, SyncSettings
from .validate import validate_config

__all__ = ["Config", "Section", "SyncSettings", "validate_config", "load_config"]
