"""An engine's image of another version on the same database: dumped inside of PostgreSQL's container, and put back there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tests.conftest import Cli
from tests.docker.conftest import STANDIN_IMAGE
from tests.docker.stacks import actions, ask, details, faulty, lift

NEW = "v0.108.0"


def test_upgraded_taken_back_and_refused(docker_project: Callable[..., Cli]) -> None:
    cli = docker_project()
    old = lift(cli, "--mode", "full")
    assert "engine.upgrade" not in actions(old)
    before = cli.state["data"]["engine"]["migrated_by"]
    ask(cli, "create table work_of_before (id int)")
    with contextlib.ExitStack() as stack:
        broken = stack.enter_context(faulty(STANDIN_IMAGE, f"version={NEW} lite.exit-at-start", "told to end"))
        good = stack.enter_context(faulty(STANDIN_IMAGE, f"version={NEW}"))

        cli.env["OWLCLAW_UP_HATCHET_IMAGE"] = broken
        failed = lift(cli, code=4)
        assert failed["error"]["code"] == "engine-upgrade"
        assert failed["error"]["message"].endswith(f"{before} runs again, on its database of before")
        assert actions(failed)["engine.back"] == "update"
        assert cli.json("status")["services"][1]["version"] == before
        assert ask(cli, "select count(*) from work_of_before") == "0"
        (dump,) = (cli.root / ".owlclaw-up/dumps").iterdir()
        assert dump.stat().st_mode & 0o777 == 0o600

        cli.env["OWLCLAW_UP_HATCHET_IMAGE"] = good
        ahead = cli.json("plan")
        assert details(ahead)["engine.upgrade"].startswith(f"from {before}")
        document = lift(cli)
        assert details(document)["engine.upgrade"].startswith(f"from {before} to {NEW}, hatchet-")
        assert "upgrade" not in cli.state["data"]
        again = lift(cli)
        assert set(actions(again).values()) <= {"unchanged", "skip"}

        cli.env["OWLCLAW_UP_HATCHET_IMAGE"] = STANDIN_IMAGE
        refused = lift(cli, code=3)
        assert refused["error"]["code"] == "engine-downgrade"
        assert cli.json("status")["services"][1]["version"] == NEW
    cli.assert_no_leak()
