"""Which PostgreSQL holds the databases: the user's own where it can be used, and what stands against each. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from owlclaw_up.errors import PostgresUnusable
from owlclaw_up.facts import Facts, ServerCandidate
from owlclaw_up.host.base import ServerLook, ServerRefusal, sql_name
from owlclaw_up.model import Absent, Mode, Unknown, found
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings, application_database, wanted_databases

OLDEST_POSTGRES = 140000
BTREE_GIST_HINT = "install its contrib package, on Debian: apt-get install postgresql-contrib (server {})"
# What is kept of a login to a server of the user's is given anew by this.
_AGAIN = "owlclaw-up --admin-url postgresql://..."


def choose_server(facts: Facts, settings: Settings, ledger: Ledger, mode: Mode) -> ServerLook | None:
    """The user's own server to use, or None for one of ours: in a container in `full`, else embedded.

    Raises:
        PostgresUnusable: a server that was asked for, or that holds our databases, cannot be used.
    """
    if mode is Mode.FULL:
        return None
    kept = ledger.recall("postgres")
    candidates = found(facts.servers) or ()
    needs_engine = mode not in (Mode.MOCK, Mode.REMOTE)
    if settings.admin_url.value is not None:
        if not candidates:
            why = facts.servers.why if isinstance(facts.servers, (Absent, Unknown)) else "no answer"
            raise PostgresUnusable(
                "postgres-unreachable",
                f"the PostgreSQL of {settings.admin_url.origin} did not answer: {why}",
                hint="check host and port in the URL",
            )
        return _require(
            candidates[0], needs_engine, _statements(candidates[0], settings) if mode is Mode.REMOTE else ""
        )
    if kept.get("kind") == "local":
        fault = kept_fault(facts, ledger)
        if fault is not None:
            raise fault
        return found(facts.our_stack.on_server.server)
    if kept.get("kind") == "embedded":
        return None
    for candidate in candidates:
        if isinstance(candidate.look, ServerLook) and server_fault(candidate, needs_engine) is None:
            return candidate.look
    return None


def kept_fault(facts: Facts, ledger: Ledger) -> PostgresUnusable | None:
    """What stands against the server of the user's that holds our databases, or None."""
    on_server, where = facts.our_stack.on_server, str(ledger.recall("postgres").get("where"))
    if not isinstance(on_server.server, (Absent, Unknown)):
        return None
    refusal = on_server.refusal
    if refusal is not None and refusal.kind not in ("refused", "unreachable"):
        return of_refusal(refusal, where, ".owlclaw-up/secrets.json", {"login": f"give it anew: {_AGAIN}"})
    return PostgresUnusable(
        "postgres-unreachable",
        f"the PostgreSQL that holds our databases ({where}) cannot be used",
        hint="start it, or give its admin login again: owlclaw-up --admin-url postgresql://...",
        detail=on_server.server.why,
    )


def _require(candidate: ServerCandidate, needs_engine: bool, statements: str = "") -> ServerLook:
    """The server, or its fault.

    Args:
        statements: what somebody with more rights may do in the login's place.
    """
    fault = server_fault(candidate, needs_engine)
    if fault is not None:
        if fault.code == "postgres-privileges" and statements:
            fault.hint = statements
        raise fault
    assert isinstance(candidate.look, ServerLook)
    return candidate.look


def _statements(candidate: ServerCandidate, settings: Settings) -> str:
    """What makes the databases that are missing, for whoever may, and how it goes on then."""
    look, lines = candidate.look, []
    if not isinstance(look, ServerLook):
        return ""
    for wanted in wanted_databases(settings):
        name, role = sql_name(wanted.name), sql_name(wanted.role)
        if f"role {wanted.role}" in candidate.missing:
            lines.append(f"CREATE ROLE {role} LOGIN PASSWORD '...';")
        if f"database {wanted.name}" in candidate.missing:
            # Only a member of a role may give it a database; a superuser always may.
            lines += [f"GRANT {role} TO CURRENT_USER;", f"CREATE DATABASE {name} OWNER {role};"]
        lines.append(f"ALTER ROLE {role} IN DATABASE {name} SET timezone = 'UTC';")
        extensions = [e for e in wanted.extensions if e in look.extensions]
        if extensions:
            lines.append(f"\\c {name}")
            lines += [f"CREATE EXTENSION IF NOT EXISTS {sql_name(e)};" for e in extensions]
    own = application_database(settings)
    query = "&".join(f"{key}={value}" for key, value in candidate.login.options)
    url = f"postgresql://{own.role}:PASSWORD@{candidate.login.where}/{own.name}{'?' if query else ''}{query}"
    return (
        "have somebody who may run this there, with psql:\n"
        + "\n".join(f"  {line}" for line in dict.fromkeys(lines))
        + f"\nthen: OWLCLAW_UP_REMOTE_DATABASE_URL='{url}' owlclaw-up --mode remote"
    )


def server_fault(candidate: ServerCandidate, needs_engine: bool) -> PostgresUnusable | None:
    """What stands against using a server, or None."""
    look, where, source = candidate.look, candidate.login.where, candidate.source
    if isinstance(look, ServerRefusal):
        return of_refusal(look, where, source)
    if look.version_num < OLDEST_POSTGRES:
        return PostgresUnusable(
            "postgres-too-old",
            f"{where} runs PostgreSQL {look.version}; Hatchet needs 14 or newer",
            hint="upgrade it, or let owlclaw-up start one of its own: leave out --admin-url",
        )
    if candidate.missing:
        missing = " and ".join(
            n for n, has in (("CREATEDB", look.createdb), ("CREATEROLE", look.createrole)) if not has
        )
        return PostgresUnusable(
            "postgres-privileges",
            f"the login {look.user!r} on {where} lacks {missing}, and something is to be made there",
            hint=f"as a superuser there: ALTER ROLE {sql_name(look.user)} {missing.replace(' and ', ' ')}",
            detail=f"not there yet: {', '.join(candidate.missing)}",
        )
    if needs_engine and "btree_gist" not in look.extensions:
        return PostgresUnusable(
            "postgres-btree-gist",
            f"{where} has no btree_gist, which Hatchet's migrations create",
            hint=BTREE_GIST_HINT.format(look.major),
        )
    if look.standby or look.read_only:
        return not_writable(look)
    return None


def not_writable(look: ServerLook) -> PostgresUnusable:
    """A server that takes no writes of ours."""
    where = look.login.where
    if look.standby:
        return PostgresUnusable(
            "postgres-read-only",
            f"{where} is a standby, which takes no writes",
            hint="name its primary, or end the recovery there: SELECT pg_promote()",
            detail="pg_is_in_recovery() says true",
        )
    return PostgresUnusable(
        "postgres-read-only",
        f"sessions of {look.user!r} on {where} are read-only",
        hint="as a superuser there: ALTER SYSTEM RESET default_transaction_read_only, then SELECT pg_reload_conf(); or unset PGOPTIONS",
        detail="default_transaction_read_only is on",
    )


def of_refusal(
    refusal: ServerRefusal, where: str, source: str, hints: Mapping[str, str] | None = None
) -> PostgresUnusable:  # fmt: skip
    """A server that lets us not in, as an error.

    Args:
        source: where the login came from.
        hints: what helps in this place, by the kind of refusal.
    """
    texts = {
        "malformed": (f"the URL of {source} is no PostgreSQL URL", "postgresql://user:password@host:5432/postgres"),
        "refused": (f"nobody listens at {where} ({source})", "start that server, or correct host and port"),
        "unreachable": (f"{where} ({source}) cannot be reached", "correct host and port, or check the network"),
        "login": (f"{where} answers, and refuses the login of {source}", "correct user and password in the URL"),
        "no-database": (f"{where} has no such database ({source})", "end the URL in /postgres"),
        "not-postgres": (f"what listens at {where} is no PostgreSQL ({source})", "correct host and port"),
        "starting": (f"{where} is starting up or shutting down ({source})", "wait for that server, then: owlclaw-up"),
        "too-many-connections": (
            f"{where} has no free connections ({source})",
            "close idle sessions there, or raise its max_connections; then: owlclaw-up",
        ),
        "privilege": (f"{where} lets the login of {source} into no database", "use a login with more rights"),
        "offline": (f"{where} ({source}) is another machine, and offline is set", "leave out --offline"),
        "tls": _of_tls(refusal.detail, where, source),
    }
    message, hint = texts.get(refusal.kind, (f"{where} cannot be used ({source})", "see the detail"))
    return PostgresUnusable(
        f"postgres-{refusal.kind}", message, hint=(hints or {}).get(refusal.kind, hint), detail=refusal.detail
    )


# Words of libpq, what they mean, what helps.
_TLS_FAULTS = (
    ("no encryption", "it demands TLS, and the URL forbids it", "?sslmode=require in the URL, or verify-full with sslrootcert=FILE"),
    (
        "does not support ssl", "it speaks no TLS, and the URL demands it",
        "?sslmode=disable in the URL (what goes there is then not encrypted), or have that server speak TLS",
    ),
    (
        "does not match host name", "its certificate is for another name",
        "the host in the URL as that certificate names it, or ?sslmode=verify-ca",
    ),
    (
        "certificate verify failed", "its certificate is not signed by the root that is trusted here",
        "&sslrootcert=FILE in the URL, with the root of that certificate as PEM",
    ),
    (
        "root certificate file", "there is no root certificate to check it by",
        "&sslrootcert=FILE in the URL, with the root of its certificate as PEM; or sslrootcert=system",
    ),
)  # fmt: skip


def _of_tls(words: str, where: str, source: str) -> tuple[str, str]:
    """What a server and this client do not agree on, and what helps."""
    low = words.lower()
    for word, why, hint in _TLS_FAULTS:
        if word in low:
            return f"{where} cannot be used over TLS as the URL has it: {why} ({source})", hint
    return (
        f"{where} and this client do not agree on TLS ({source})",
        "add ?sslmode=require or disable; verify-full wants sslrootcert=FILE too",
    )


def of_role_refusal(refusal: ServerRefusal, where: str, role: str, database: str) -> PostgresUnusable:
    """A role of ours that is let not into its database, for another reason than its password."""
    grant = f"as a superuser there: GRANT CONNECT ON DATABASE {sql_name(database)} TO {sql_name(role)}"
    return of_refusal(refusal, where, f"role {role}", {"privilege": grant})


def refused_servers(facts: Facts) -> list[ServerCandidate]:
    """Servers that answer and cannot be used: somebody's, so they are left alone and said."""
    return [
        c
        for c in found(facts.servers) or ()
        if isinstance(c.look, ServerRefusal) and c.look.kind not in ("refused", "malformed")
    ]
