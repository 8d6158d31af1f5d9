"""Providers: calls to models over HTTP, whatever format they speak, as replies or failures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consumers.providers.client import Providers
    from consumers.providers.settings import ProviderSettings, ProviderSettingsError

__all__ = ["ProviderSettings", "ProviderSettingsError", "Providers"]


def __getattr__(name: str) -> Any:
    """Import on first use: the settings of every command live here, the HTTP client costs 0.2 s."""
    if name == "Providers":
        from consumers.providers.client import Providers  # noqa: PLC0415

        return Providers
    if name in ("ProviderSettings", "ProviderSettingsError"):
        from consumers.providers import settings  # noqa: PLC0415

        return getattr(settings, name)
    msg = f"module {__name__} has no attribute {name}"
    raise AttributeError(msg)
