"""What the end-to-end tests share: every command is a Python of its own, from its first moment on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Cli


@pytest.fixture
def new_cli(new_cli: Callable[..., Cli]) -> Callable[..., Cli]:
    """A maker of projects for one test."""

    def make(*how: Any, **env: str) -> Cli:
        cli = new_cli(*how, **env)
        cli.fresh = True
        return cli

    return make
