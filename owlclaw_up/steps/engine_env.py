"""The environment of Hatchet's three binaries, and what their last words mean. Pure.

Variables as bound in hatchet, pkg/config/server/server.go and pkg/config/database/config.go; every one of them by
environment, so that no configuration folder holds an identity.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.postgres_url import url_of
from owlclaw_up.spec import HATCHET_DATABASE, EngineSpec, Fellow, SidecarEngine, StackSpec

KEYSETS = (
    "SERVER_ENCRYPTION_MASTER_KEYSET",
    "SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET",
    "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET",
)
COOKIE_SECRETS = "SERVER_AUTH_COOKIE_SECRETS"
IDENTITY = (*KEYSETS, COOKIE_SECRETS)
# What a child may have of the user's environment; nothing there configures Hatchet.
_INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SYSTEMROOT")


def engine_env(
    spec: StackSpec, engine: EngineSpec, identity: Mapping[str, str], environ: Mapping[str, str], assets: Path,
    fellow: Fellow | None = None,
) -> dict[str, str]:  # fmt: skip
    """Every variable of the engine.

    Args:
        identity: the keysets and cookie secrets.
        environ: this command's environment, of which a few harmless variables are handed on.
        assets: folder with the dashboard's index.html; the engine panics without one.
        fellow: the engine beside the first that it is for. It listens elsewhere, and has the same identity and addresses in
            tokens.
    """
    ports = fellow.ports if fellow else spec.ports
    env = {name: environ[name] for name in _INHERITED if name in environ}
    env |= {
        "DATABASE_URL": _database_url(spec.login(spec.database(HATCHET_DATABASE))),
        "DATABASE_MAX_CONNS": str(fellow.max_conns if fellow else engine.max_conns),
        "PGTZ": "UTC",
        "SERVER_URL": spec.server_url,
        "SERVER_PORT": str(ports.api),
        "SERVER_GRPC_PORT": str(ports.grpc),
        "SERVER_GRPC_BIND_ADDRESS": "127.0.0.1",
        "SERVER_GRPC_BROADCAST_ADDRESS": spec.grpc_address,
        "SERVER_GRPC_INSECURE": "t",
        "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": f"127.0.0.1:{ports.grpc}",
        "SERVER_HEALTHCHECK_PORT": str(ports.health),
        "SERVER_AUTH_COOKIE_DOMAIN": "localhost",
        "SERVER_AUTH_COOKIE_INSECURE": "t",
        "SERVER_AUTH_SET_EMAIL_VERIFIED": "t",
        "SERVER_ALLOW_SIGNUP": "false",
        "SERVER_SECURITY_CHECK_ENABLED": "false",
        # By the short cuts, a run of a workflow that no worker has registered yet is accepted and lost; without them the
        # engine says "workflow names not found", and a client can try again (seen with v0.104.7).
        "SERVER_OPTIMISTIC_SCHEDULING_ENABLED": "false",
        "SERVER_GRPC_TRIGGER_WRITES_ENABLED": "false",
        "LITE_RUNTIME_PORT": str(ports.dashboard),
        "LITE_FRONTEND_PORT": str(ports.frontend),
        "LITE_STATIC_ASSET_DIR": str(assets),
        "ADMIN_EMAIL": engine.admin_email,
        "ADMIN_PASSWORD": engine.admin_password.reveal(),
        "DEFAULT_TENANT_ID": engine.tenant,
        **identity,
    }
    if engine.rabbitmq is not None:
        env |= {"SERVER_MSGQUEUE_KIND": "rabbitmq", "SERVER_MSGQUEUE_RABBITMQ_URL": engine.rabbitmq.reveal()}
    else:
        env["SERVER_MSGQUEUE_KIND"] = "postgres"
    return env


def sidecar_env(
    spec: StackSpec, engine: SidecarEngine, identity: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:  # fmt: skip
    """Every variable of a sidecar and its keeper: what hatchet-sdk shall start, and what a sidecar reads beside its command line.

    The database's URL ends on that command line, so the password comes beside it: pgx reads PGPASSWORD. The sidecar's own
    addresses, cookie secrets and keysets go before those of the environment: hatchet-embedded, embed.go.

    Args:
        identity: keysets and cookie secrets, where an engine of another kind was here before.
    """
    login, sidecar = spec.login(spec.database(HATCHET_DATABASE)), engine.sidecar
    whole = identity if all(identity.get(name) for name in IDENTITY) else {}
    env = engine_env(spec, engine, whole, environ, spec.state_dir)
    env = {name: value for name, value in env.items() if name != "DATABASE_URL" and not name.startswith("LITE_")}
    env |= {
        "PGPASSWORD": login.password.reveal() if login.password else "",
        "HATCHET_CLIENT_EMBEDDED_DATABASE_URL": _database_url(dataclasses.replace(login, password=None)),
        "HATCHET_CLIENT_EMBEDDED_GRPC_PORT": str(spec.ports.grpc),
        "HATCHET_CLIENT_EMBEDDED_API_PORT": str(spec.ports.dashboard),
        "HATCHET_CLIENT_EMBEDDED_VERSION": sidecar.version,
        "HATCHET_CLIENT_EMBEDDED_BINARY_PATH": str(sidecar.binary or ""),
        "HATCHET_CLIENT_EMBEDDED_CHECKSUM": sidecar.checksum,
    }
    return {name: value for name, value in env.items() if value}


def _database_url(login: ServerLogin) -> str:
    url = url_of(login).reveal()
    return url if "sslmode=" in url else url + ("&" if "?" in url else "?") + "sslmode=prefer"


def token_arguments(spec: StackSpec, engine: EngineSpec, name: str) -> list[str]:
    """What `hatchet-admin` is told for a new token; its lifetime in hours, since Go knows no days."""
    return [
        "token", "create", "--name", name, "--tenant-id", engine.tenant, "--expiresIn", f"{spec.token_lifetime_hours}h",
    ]  # fmt: skip


def fingerprint(env: Mapping[str, str], binaries: Path, version: str) -> str:
    """A short hash that changes when an engine would be started differently."""
    return _hash(env, str(binaries), version)


def sidecar_fingerprint(env: Mapping[str, str], identity: str) -> str:
    """The same of a sidecar; whether it was fetched before makes no difference.

    Args:
        identity: of the `Sidecar`.
    """
    found_anew = ("HATCHET_CLIENT_EMBEDDED_BINARY_PATH", "HATCHET_CLIENT_EMBEDDED_CHECKSUM")
    return _hash({k: v for k, v in env.items() if k not in found_anew}, identity)


def _hash(env: Mapping[str, str], *what: str) -> str:
    ours = {k: v for k, v in env.items() if k not in _INHERITED and k != "ADMIN_PASSWORD"}
    return hashlib.sha256(json.dumps([ours, *what], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Diagnosis:
    """What an engine's last words mean, and what to do."""

    code: str
    cause: str
    hint: str


OUT_OF_MEMORY = Diagnosis(
    "out-of-memory", "there was not enough memory",
    "give the Docker engine at least 2 GB (Docker Desktop, Colima), or end other containers",
)  # fmt: skip
# Texts as the engine printed them, healthy and broken in some thirty ways; the first match wins.
_SYMPTOMS: tuple[tuple[str, str, str, str], ...] = (
    (r"instance timezone is set to '(?P<x>[^']*)'", "timezone", "its database session has timezone {x}, not UTC",
     "owlclaw-up (it sets UTC for the role in that database)"),
    (r"listen tcp \S*?:(?P<x>\d+): bind: address already in use", "port-taken", "port {x} was taken by somebody meanwhile",
     "ss -ltnp 'sport = :{x}'; then owlclaw-up"),
    (r"decryption failed|invalid keyset", "keys", "its keysets do not belong together",
     "restore .owlclaw-up/secrets.json, or start anew: owlclaw-up reset"),
    (r"encryption is required", "keys-missing", "a keyset is missing", "owlclaw-up reset"),
    (r"could not init rabbitmq:[^\n]*(403|ACCESS.REFUSED|not allowed)", "rabbitmq-login", "RabbitMQ refuses its login",
     "correct rabbitmq_url; RabbitMQ lets its user guest in from loopback only, so a container needs another one"),
    (r"could not init rabbitmq", "rabbitmq", "RabbitMQ does not answer it",
     "start it, and have it listen beyond loopback where the engine is in a container; then: owlclaw-up"),
    (r"password authentication failed", "postgres-login", "PostgreSQL refuses the password of its role",
     "owlclaw-up status; ALTER ROLE hatchet PASSWORD as kept in .owlclaw-up/secrets.json"),
    (r"too many clients|remaining connection slots", "postgres-full", "PostgreSQL has no free connections",
     "raise max_connections on that server, or close idle sessions"),
    # Its proxy says so of its own API, at every start.
    (r"^(?!.*http: proxy error).*(connection refused|context deadline exceeded)", "postgres-away", "PostgreSQL does not answer it",
     "owlclaw-up status; owlclaw-up logs postgres"),
    (r'extension "btree_gist" already exists', "btree-gist-exists", "somebody made btree_gist before Hatchet's migration",
     'psql -d hatchet -c "DROP EXTENSION btree_gist"; then owlclaw-up'),
    (r"could not open extension control file|btree_gist.* is not available", "btree-gist", "btree_gist is missing there",
     "apt-get install postgresql-contrib, on Debian"),
    (r"permission denied for|must be owner|42501", "privilege", "its role lacks a right in its database",
     "ALTER DATABASE hatchet OWNER TO hatchet"),
    (r"missing migrations before current version|found \d+ missing", "migration-order",
     "the database was migrated by an engine with another order of migrations", "use the engine version that made it"),
    (r"(type|relation) \S+ does not exist \(SQLSTATE 42(P01|704)\)", "not-migrated", "its database is not migrated", "owlclaw-up"),
    (r"ADMIN_PASSWORD does not meet", "admin-password", "the admin password is too weak for it",
     "set admin_password to 8-64 characters with upper and lower case and a digit"),
    (r"APIToken_tenantId_fkey", "tenant", "there is no such tenant in its database", "owlclaw-up reset"),
    (r"index\.html: no such file", "assets", "its dashboard files are missing", "owlclaw-up"),
    (r"initialized by PostgreSQL version (?P<x>[\d.]+), which is not compatible", "volume-major",
     "its volume was made by PostgreSQL {x}, and the image has another major version",
     "the image of that version: OWLCLAW_UP_POSTGRES_IMAGE=... owlclaw-up; or give the data up: owlclaw-up reset"),
    (r"exec format error", "architecture", "it is built for another machine", "take the engine for this machine"),
    (r"no space left on device", "disk-full", "the disk is full", "df -h"),
)  # fmt: skip
_COMPILED = [
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), code, cause, hint) for pattern, code, cause, hint in _SYMPTOMS
]


def diagnose(words: str) -> Diagnosis | None:
    """The first known symptom in an engine's output."""
    for pattern, code, cause, hint in _COMPILED:
        match = pattern.search(words)
        if match:
            value = match.groupdict().get("x", "")
            return Diagnosis(code, cause.format(x=value), hint.format(x=value))
    return None
