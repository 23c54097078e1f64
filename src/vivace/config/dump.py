"""Settings as YAML, for /status/config: secrets as `<secret>`, durations and sizes as load.py reads them back."""

from __future__ import annotations

from typing import Any, Literal

import yaml

from .section import Section, Whole, has_mark, section_type, yaml_fields


def to_yaml(settings: Section, mode: Literal["all", "diff", "defaults"]) -> str:
    """All settings, only those that differ from the defaults, or the defaults. Lists are shown whole or not at all.

    A key that has no value by default (a certificate file) is left out: in YAML its name alone would say "given".
    """
    defaults = _plain(type(settings)())
    data = defaults if mode == "defaults" else _plain(settings)
    if mode == "diff":
        data = _difference(data, defaults, type(settings))
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def _plain(settings: Section) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True, exclude_none=True)


def _difference(data: dict[str, Any], defaults: dict[str, Any], section: type[Section]) -> dict[str, Any]:
    """The keys of `data` that are not as in `defaults`, sections without any left out."""
    different: dict[str, Any] = {}
    for name, field in yaml_fields(section).items():
        if name not in data or data[name] == defaults.get(name):
            continue
        child = section_type(field.annotation)
        if child is None or name not in defaults or has_mark(field, Whole):
            different[name] = data[name]
        else:
            different[name] = _difference(data[name], defaults[name], child)
    return different
