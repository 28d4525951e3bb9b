"""Commands that run SQL on the server that holds our databases, for a reader to paste. Pure."""

from __future__ import annotations

import shlex

from owlclaw_up.checks.base import Evidence
from owlclaw_up.facts.containers import DATABASE
from owlclaw_up.facts.servers import admin_login
from owlclaw_up.host.embedded import SUPERUSER
from owlclaw_up.model import found


def by_psql(evidence: Evidence, database: str, *statements: str) -> str:
    """The command that runs statements on the server that holds our databases; psql asks for the password.

    As our admin, or as the usual superuser where our admin is none.
    """
    kept, ledger = evidence.ledger.recall("postgres"), evidence.ledger
    words = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
    container = evidence.facts.containers.get(DATABASE)
    if kept.get("kind") == "container" and container is not None:
        return f"docker exec {container.name} psql -U {SUPERUSER} -d {database} {words}"
    admin = admin_login(ledger)
    if admin is None:
        return f"psql -d {database} {words}"
    program = f"{kept['bin_dir']}/psql" if kept.get("bin_dir") and kept.get("kind") == "embedded" else "psql"
    port = f" -p {admin.port}" if admin.port else ""
    server = found(evidence.facts.our_stack.on_server.server)
    user = admin.user if server is None or server.superuser else SUPERUSER
    return f"{program} -h {admin.host or 'localhost'}{port} -U {user} -d {database} {words}"


def password_place(evidence: Evidence) -> str:
    """Where the password is that such a command asks for."""
    if evidence.ledger.recall("postgres").get("kind") != "embedded":
        return ""
    return f" (its password: passwords.{SUPERUSER} in {evidence.ledger.secrets_path})"
