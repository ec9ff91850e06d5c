"""The configuration: its sections, and how it is read and checked before anything starts."""

from serve.config.app import AnyModel, AppConfig, HostedModels, LLMs
from serve.config.faults import ConfigError, faults_of, wrong
from serve.config.files import DEFAULT_CONFIG, load_config, load_keys, read_config
from serve.config.router import RouterConfig, Settings
from serve.config.scoring import ScoringConfig
from serve.config.server import KeyConfig, ServerConfig, check_keys
from serve.config.store import StoreConfig, default_store

__all__ = [
    "DEFAULT_CONFIG",
    "AnyModel",
    "AppConfig",
    "ConfigError",
    "HostedModels",
    "KeyConfig",
    "LLMs",
    "RouterConfig",
    "ScoringConfig",
    "ServerConfig",
    "Settings",
    "StoreConfig",
    "check_keys",
    "default_store",
    "faults_of",
    "load_config",
    "load_keys",
    "read_config",
    "wrong",
]
