"""What the tasks do, without an engine: each is called in this process, on a database of its own."""

from uuid import uuid4

import psycopg
import pytest

from owlclaw_up.client import BadDelay, BadInput, UnknownTask
from tests.conftest import insert_order


def test_an_order_is_confirmed(hatchet_client, tasks, shop) -> None:
    order = insert_order(shop)
    assert hatchet_client.sync.mock_run(tasks.confirm_order, {"id": str(order)}) == {"customer": "Ada"}
    with psycopg.connect(shop) as db:
        assert db.execute("select status from orders").fetchall() == [("confirmed",)]


def test_an_order_that_is_not_there_fails(hatchet_client, tasks, shop) -> None:
    with pytest.raises(LookupError):
        hatchet_client.sync.mock_run(tasks.confirm_order, {"id": str(uuid4())})


@pytest.mark.parametrize(("confirmed", "sent"), [(False, True), (True, False)])
def test_who_has_not_confirmed_is_reminded(hatchet_client, tasks, shop, confirmed: bool, sent: bool) -> None:
    order = insert_order(shop)
    if confirmed:
        hatchet_client.sync.mock_run(tasks.confirm_order, {"id": str(order)})
    reminder = {"id": str(order), "after_seconds": 0.01}
    assert hatchet_client.sync.mock_run(tasks.remind_customer, reminder) == {"sent": sent}


def test_sales_are_counted_once(hatchet_client, tasks, shop) -> None:
    for cents in (100, 250):
        order = insert_order(shop, cents=cents)
        hatchet_client.sync.mock_run(tasks.confirm_order, {"id": str(order)})
    for _ in range(2):
        assert hatchet_client.sync.mock_run(tasks.count_sales) == {"days": 1}
    with psycopg.connect(shop) as db:
        assert db.execute("select orders, cents from sales").fetchall() == [(2, 350)]


def test_mistakes_are_found_before_anything_is_sent(hatchet_client, tasks) -> None:
    with pytest.raises(UnknownTask, match="confirm_order"):
        hatchet_client.sync.run_task_now("confirm_ordr")
    with pytest.raises(BadInput):
        hatchet_client.sync.run_task_now(tasks.confirm_order, {"id": "no uuid"})
    with pytest.raises(BadDelay):
        hatchet_client.sync.schedule_task(tasks.count_sales, delay=-1)
