"""What goes wrong before an engine runs."""

from __future__ import annotations


class ConfigurationError(Exception):
    """The environment does not do; the text is the one the real engine prints for it."""
