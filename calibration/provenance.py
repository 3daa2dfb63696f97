"""What is known of the installation without torch."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """simqueue's version, or that it runs from a checkout."""
    try:
        return version("simqueue")
    except PackageNotFoundError:
        return "a checkout, not installed"
