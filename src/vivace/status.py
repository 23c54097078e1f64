"""What the /status pages show; see api/deps.py, StatusSource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vivace import __version__
from vivace.api.deps import ConfigMode, ServiceRow
from vivace.config.dump import to_yaml
from vivace.config.live import LiveLimits
from vivace.config.settings import Settings
from vivace.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Status:
    """What the /status pages show."""

    settings: Settings
    limits: LiveLimits
    tenants: Callable[[], list[str]]
    state: Callable[[], str]
    parts: tuple[str, ...]

    @property
    def version(self) -> str:
        return __version__

    @property
    def revision(self) -> str:
        return ""

    def services(self) -> list[ServiceRow]:
        state = self.state()
        return [ServiceRow(name, state) for name in self.parts]

    def config_yaml(self, mode: ConfigMode) -> str:
        names = {ConfigMode.EFFECTIVE: "all", ConfigMode.DIFF: "diff", ConfigMode.DEFAULTS: "defaults"}
        return self.settings.to_yaml(names[mode])  # type: ignore[arg-type]

    def runtime_config_yaml(self, mode: ConfigMode) -> str:
        file = self.limits.tenants
        entries = file.entries if file else {}
        return (
            "".join(f"{name}:\n{_indent(to_yaml(limits, 'all'))}" for name, limits in sorted(entries.items())) or "{}\n"
        )

    def overrides_yaml(self, tenant: str | None) -> str:
        if tenant is not None and tenant not in self.tenants():
            raise NotFoundError(f"no such tenant: {tenant}")
        return to_yaml(self.limits.of(tenant) if tenant else self.limits.defaults, "all")


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
