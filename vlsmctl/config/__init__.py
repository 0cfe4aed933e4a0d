"""The typed preset: its keys (schema.py), and how it is read from YAML and overridden (loading.py)."""

from vlsmctl.config.loading import (
    Resolved,
    find_preset,
    load_preset,
    preset_names,
    presets_folder,
    read_preset,
    resolve_preset,
)
from vlsmctl.config.schema import MethodsConfig, Paper, PaperScores, Preset, PromptSource, TrainConfig, keys

__all__ = [
    "MethodsConfig",
    "Paper",
    "PaperScores",
    "Preset",
    "PromptSource",
    "Resolved",
    "TrainConfig",
    "find_preset",
    "keys",
    "load_preset",
    "preset_names",
    "presets_folder",
    "read_preset",
    "resolve_preset",
]
