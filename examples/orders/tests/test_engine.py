"""The shop as it runs: a worker of its own process, asked through the engine. Skipped where no engine answers."""

import psycopg
import pytest

from tests.conftest import insert_order, until

pytestmark = pytest.mark.hatchet


def test_a_worker_confirms_an_order(hatchet_client, tasks, worker) -> None:
    order = insert_order(worker)

    def confirmed():
        """Until the worker has registered its tasks, the engine does not know them."""
        from owlclaw_up.client import TaskNotOnEngine

        try:
            return hatchet_client.sync.run_task_now(tasks.confirm_order, {"id": str(order)})
        except TaskNotOnEngine:
            return None

    run = until(confirmed)
    assert hatchet_client.sync.result(run, timeout=60) == {"customer": "Ada"}
    with psycopg.connect(worker) as db:
        assert db.execute("select status from orders where id = %s", [order]).fetchone() == ("confirmed",)


def test_a_reminder_waits_for_its_time(hatchet_client, tasks, worker) -> None:
    order = insert_order(worker)
    reminder = {"id": str(order), "after_seconds": 1}
    run = hatchet_client.sync.run_task_now(tasks.remind_customer, reminder)
    assert hatchet_client.sync.result(run, timeout=60) == {"sent": True}


def test_a_count_that_is_scheduled_comes(hatchet_client, tasks, worker) -> None:
    hatchet_client.sync.schedule_task(tasks.count_sales, delay=1, metadata={"asked": "by a test"})
    found = until(lambda: hatchet_client.sync.list_tasks(metadata={"asked": "by a test"}, status="COMPLETED"))
    assert found[0].task == "count_sales"
