"""The screens of `owlclaw-up db`, as lines with a style, or with the symbol of an action for one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from owlclaw_up.model import Action, Outcome

Line = tuple[str, str]


def made(outcome: Outcome) -> Iterator[Line]:
    """What `db init` or `db reset-test` came to: the server, the databases, where the passwords are, what is next."""
    if outcome.data.get("declined"):
        yield "Nothing was dropped", "bold"
        return
    data = outcome.data["database"]
    if outcome.data.get("dry_run"):
        yield _server(data["server"]), "bold"
        yield "", ""
        for step in outcome.steps:
            yield f"  {step.action.symbol} {step.id:<22} {step.detail}", step.action.symbol
        yield "", ""
        changes = any(s.action is not Action.UNCHANGED for s in outcome.steps)
        legend = "+ create   ~ change   = stays        do it: owlclaw-up db init"
        yield (legend, "dim") if changes else ("Nothing to change", "bold green")
        return
    changed = any(s.action not in (Action.UNCHANGED, Action.SKIP) for s in outcome.steps)
    yield f"{'Ready' if changed else 'Ready, nothing to change'}: {_server(data['server'])}", "bold green"
    yield "", ""
    rows = [(d["name"], d["owner"], " ".join(d["extensions"]) or "-") for d in data["databases"]]
    yield from _table(("database", "role", "extensions"), rows)
    yield "", ""
    yield f"  passwords    {data['secrets_file']}", ""
    yield "", ""
    after = [("owlclaw-up db status", "where they stand")]
    if outcome.mode is None:
        after = [
            ("owlclaw-up", "an environment on them"),
            *after,
            ("owlclaw-up down --purge", "take back what was made"),
        ]
    for command, about in after:
        yield f"  {command:<25} {about}", "dim"


def standing(outcome: Outcome) -> Iterator[Line]:
    """`db status` on one screen."""
    data = outcome.data["database"]
    server = data["server"]
    yield _server(server), "bold"
    used = server["connections"]
    tls = "TLS" if server["tls"] else "no TLS"
    yield f"  login {server['login']}, {tls}, {used['used']} of {used['max']} connections, {server['timezone']}", "dim"
    yield "", ""
    rows = [
        (
            d["name"],
            d["owner"] or "-",
            size(d["size"]) if d["exists"] else "missing",
            d["encoding"] or "-",
            d["timezone"] or "-",
            ", ".join(e if how == "there" else f"{e} ({how})" for e, how in d["extensions"].items()) or "-",
        )
        for d in data["databases"]
    ]
    yield from _table(("database", "owner", "size", "encoding", "timezone", "extensions"), rows)
    yield "", ""
    for role in data["roles"]:
        how = "password known" if role["login_works"] else "password not known" if role["exists"] else "missing"
        yield f"  role {role['name']:<12} {how}", ""
    for line in _migrations(data["migrations"]):
        yield line, ""


def _migrations(data: dict[str, Any]) -> Iterator[str]:
    hatchet = data["hatchet"]
    by = f"   (engine {hatchet['engine']} left it at {hatchet['expected']})" if hatchet["expected"] else ""
    none = "none here: its database is another server's" if hatchet["elsewhere"] else "none yet"
    yield f"  Hatchet's migrations   {hatchet['version'] or none}{by}"
    alembic = data["alembic"]
    if alembic and alembic["source"] == "baseline":
        yield "  Alembic's migrations   the project has none"
    elif alembic and not alembic["problem"]:
        pending = f", {len(alembic['pending'])} pending" if alembic["pending"] else ""
        at = ", ".join(alembic["current"]) or "none yet"
        yield f"  Alembic's migrations   {at}{pending}   (head {', '.join(alembic['heads'])}, {alembic['source']})"


def size(number: int | None) -> str:
    """Bytes for a reader."""
    if number is None:
        return "-"
    value, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def _server(server: dict[str, Any]) -> str:
    version = server["version"].partition(" ")[0]
    kinds = {"local": "yours", "embedded": "of this project", "container": "of this project, in a container"}
    return f"PostgreSQL {version} at {server['where']}, {kinds[server['kind']]} ({server['source']})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Line]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield f"  {'  '.join(cells)}".rstrip(), "dim" if row is head else ""
