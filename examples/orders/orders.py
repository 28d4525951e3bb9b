"""A small shop: orders are confirmed, customers reminded, sales counted. `python orders.py` is the worker.

The same file runs on an engine and in mock: where the tasks run is a matter of `.env` alone.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from pydantic import BaseModel

from owlclaw_up.client import HatchetClient, Task


class Order(BaseModel):
    id: UUID


class Reminder(BaseModel):
    id: UUID
    after_seconds: float = 3600


@dataclass(frozen=True)
class Tasks:
    confirm_order: Task
    remind_customer: Task
    count_sales: Task


async def connect() -> psycopg.AsyncConnection[Any]:
    """A connection to the application's database; `.env` has SQLAlchemy's form of the URL."""
    url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


def declare(client: HatchetClient) -> Tasks:
    """The shop's tasks, on a client of whoever wants them: the worker, the web application, a test."""

    @client.task(retries=3, timeout=30)
    async def confirm_order(input: Order, ctx: Any) -> dict[str, str]:
        """Confirm an order; run again for the same one, it changes nothing."""
        async with await connect() as db:
            updated = await db.execute(
                "update orders set status = 'confirmed' where id = %s returning customer", [input.id]
            )
            row = await updated.fetchone()
        if row is None:
            raise LookupError(f"there is no order {input.id}")
        return {"customer": row[0]}

    @client.durable_task(timeout=timedelta(days=2))
    async def remind_customer(input: Reminder, ctx: Any) -> dict[str, bool]:
        """Remind a customer of an order that is not confirmed after a while; the wait outlives the worker."""
        await ctx.aio_sleep_for(timedelta(seconds=input.after_seconds))
        async with await connect() as db:
            made = await db.execute(
                "insert into reminders (order_id) select id from orders where id = %s and status = 'new'", [input.id]
            )
        return {"sent": made.rowcount > 0}

    @client.task(crons=["0 3 * * *"])
    async def count_sales(input: dict[str, Any], ctx: Any) -> dict[str, int]:
        """Count the confirmed orders of each day, every night."""
        async with await connect() as db:
            counted = await db.execute(
                """
                insert into sales (day, orders, cents)
                select created::date, count(*), sum(cents) from orders where status = 'confirmed' group by 1
                on conflict (day) do update set orders = excluded.orders, cents = excluded.cents
                """
            )
        return {"days": counted.rowcount}

    return Tasks(confirm_order, remind_customer, count_sales)


if __name__ == "__main__":
    from dotenv import load_dotenv

    load_dotenv()
    client = HatchetClient()
    declare(client)
    client.worker("orders").start()
