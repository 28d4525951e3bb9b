"""Checks of what the client's methods are given; what comes out can be sent. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from owlclaw_up.client import cron as cron_expressions
from owlclaw_up.client.durations import delay_of, instant_of, seconds_of
from owlclaw_up.client.errors import BadArgument, BadRunId, NaiveDatetime
from owlclaw_up.client.runs import STATUSES, Schedule, TaskRun, TaskStatus

_LONGEST_NAME = 200


def run_id_of(given: object) -> str:
    """The id of a run, given as one, or as what has one.

    Raises:
        BadRunId: it is no UUID.
        BadArgument: it is a schedule.
    """
    if isinstance(given, Schedule):
        raise BadArgument("run", f"schedule {given}", "it is no run; those that it starts are", "list_tasks(task=...)")
    text = str(given) if isinstance(given, (str, uuid.UUID)) else ""
    if isinstance(given, (TaskRun, TaskStatus)):
        text = given.id
    try:
        # uuid.UUID takes braces and urn: as well, which no engine does.
        if str(uuid.UUID(text)) == text.lower():
            return text.lower()
    except ValueError:
        pass
    raise BadRunId(repr(given)[:60])


def metadata_of(given: object) -> dict[str, str]:
    """Texts by which runs are found again.

    Raises:
        BadArgument: not only texts, or a key with a colon, which the engine's search takes for its end.
    """
    if given is None:
        return {}
    hint = "metadata={'customer': '17'}"
    if not isinstance(given, Mapping):
        raise BadArgument("metadata", type(given).__name__, "a dict of texts is wanted", hint)
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str) or not key or ":" in key:
            why = "keys and values are texts, keys not empty and without ':'"
            raise BadArgument("metadata", f"{{{key!r:.40}: ...}}", why, hint)
    return dict(given)


def since_of(given: object) -> datetime:
    """An instant of the past, given as such or as how far back.

    Raises:
        BadArgument, NaiveDatetime: it is neither.
    """
    if isinstance(given, timedelta):
        return datetime.now(timezone.utc) - timedelta(seconds=seconds_of("since", given))
    if not isinstance(given, datetime):
        why = "a timedelta, or an aware datetime, is wanted"
        raise BadArgument("since", repr(given)[:60], why, "since=timedelta(hours=1)")
    if given.tzinfo is None:
        raise NaiveDatetime("since", given.isoformat())
    return given.astimezone(timezone.utc)


def status_of(given: object) -> str | None:
    """A status, or None for every one.

    Raises:
        BadArgument: there is no such status.
    """
    if given is not None and given not in STATUSES:
        raise BadArgument("status", repr(given)[:60], f"one of {', '.join(STATUSES)} is wanted", "status='FAILED'")
    return None if given is None else str(given)


def count_of(name: str, given: object, most: int, usual: int) -> int:
    """A whole number of 1 or more.

    Raises:
        BadArgument: it is none, or more than `most`.
    """
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most:
        raise BadArgument(name, repr(given)[:60], f"1 to {most} is wanted", f"{name}={usual}")
    return given


def name_of(given: object, example: str) -> str | None:
    """A name that people give, of a cron or a worker; None where there is none.

    Raises:
        BadArgument: it is no text, empty, or too long.
    """
    if given is None:
        return None
    if not isinstance(given, str) or not given.strip() or len(given) > _LONGEST_NAME:
        why = f"a text of 1 to {_LONGEST_NAME} characters is wanted"
        raise BadArgument("name", repr(given)[:60], why, f"name={example!r}")
    return given


def when_of(delay: object, at: object, cron: object, name: object) -> tuple[datetime | None, str]:
    """When a schedule is to start its run: an instant, or a cron expression.

    Raises:
        BadArgument: none, or more than one, of the three is given, or a name without a cron.
        BadDelay, NaiveDatetime, BadCron: as the names say.
    """
    ways = [way for way, value in (("delay", delay), ("at", at), ("cron", cron)) if value is not None]
    if len(ways) != 1:
        why = "exactly one of them is wanted"
        raise BadArgument("delay, at, cron", " and ".join(ways) or "none", why, "schedule_task(task, delay=60)")
    if name is not None and cron is None:
        raise BadArgument("name", repr(name)[:60], "only a cron has a name", "leave it out")
    if cron is not None:
        return None, cron_expressions.parse(cron).expression
    now = datetime.now(timezone.utc)
    return (instant_of(at, now) if delay is None else now + timedelta(seconds=delay_of(delay))), ""
