"""Orders in a database of the test's own, and a worker on the environment that `.env` describes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from orders import Tasks, declare

ROOT = Path(__file__).parents[1]


def insert_order(url: str, customer: str = "Ada", cents: int = 995) -> UUID:
    with psycopg.connect(url, autocommit=True) as db:
        made = db.execute(
            "insert into orders (customer, cents) values (%s, %s) returning id", [customer, cents]
        ).fetchone()
    assert made is not None
    order: UUID = made[0]
    return order


@pytest.fixture
def tasks(hatchet_client) -> Tasks:
    return declare(hatchet_client)


@pytest.fixture
def shop(owlclaw_database, monkeypatch) -> str:
    """The URL of an empty, migrated shop, which the tasks of this process use too."""
    monkeypatch.setenv("DATABASE_URL", owlclaw_database.async_url)
    return owlclaw_database.url


@pytest.fixture(scope="module")
def worker() -> Iterator[str]:
    """A worker process, and the URL of the database that it uses."""
    process = subprocess.Popen([sys.executable, str(ROOT / "orders.py")], cwd=ROOT)
    yield os.environ["DATABASE_URL"].replace("+asyncpg", "")
    process.terminate()
    process.wait(20)


def until(look: Callable[[], object], seconds: float = 60.0) -> object:
    """Ask until there is an answer."""
    end = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
    return answer
