"""What stops `up` and what the doctor says are one: the code of an error, and the check whose fault it is.

One place to add an error that `up` may end with before it changes anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from owlclaw_up.checks.base import Check, Evidence
from owlclaw_up.errors import CheckFailed, PortDenied, PortTaken, UpError

# The check that speaks for errors that have none of their own.
REST = "environment.up"
_BY_CODE = {
    "unknown-setting": "environment.settings",
    "bad-setting": "environment.settings",
    "state-unusable": "environment.state",
    "project-not-writable": "platform.writable",
    "mode-blocked": "environment.mode",
    "durable-required": "environment.mode",
    "no-free-port": "port.range",
    "env-file": "env.file",
    "postgres-malformed": "postgres.url",
    "postgres-refused": "postgres.reach",
    "postgres-unreachable": "postgres.reach",
    "postgres-not-postgres": "postgres.reach",
    "postgres-offline": "postgres.reach",
    "postgres-starting": "postgres.reach",
    "postgres-other": "postgres.reach",
    "postgres-tls": "postgres.tls",
    "postgres-login": "postgres.login",
    "postgres-no-database": "postgres.login",
    "postgres-privilege": "postgres.privileges",
    "postgres-privileges": "postgres.privileges",
    "postgres-too-many-connections": "postgres.connections",
    "postgres-too-old": "postgres.version",
    "postgres-btree-gist": "postgres.btree_gist",
    "postgres-btree-gist-exists": "postgres.btree_gist-early",
    "postgres-read-only": "postgres.read-only",
    "postgres-unreachable-from-container": "postgres.from-container",
    "role-password-unknown": "postgres.role",
    "database-owner": "postgres.owner",
    "engine-missing": "engine.binaries",
    "engine-incomplete": "engine.binaries",
    "engine-architecture": "engine.binaries",
    "engine-not-executable": "engine.binaries",
    "engine-not-runnable": "engine.binaries",
    "engine-damaged": "engine.binaries",
    "sidecar-missing": "engine.binaries",
    "sidecar-not-executable": "engine.binaries",
    "sidecar-offline": "engine.binaries",
    "sidecar-platform": "engine.binaries",
    "sidecar-sdk": "engine.binaries",
    "engine-too-old": "sdk.engine",
    "engine-downgrade": "engine.version",
    "remote-name": "remote.reach",
    "remote-unreachable": "remote.reach",
    "remote-proxy": "remote.reach",
    "remote-no-upstream": "remote.reach",
    "remote-no-http2": "remote.reach",
    "remote-address": "remote.reach",
    "remote-offline": "remote.reach",
    "remote-not-hatchet": "remote.reach",
    "remote-split": "remote.reach",
    "remote-tls-missing": "remote.tls",
    "remote-tls-unexpected": "remote.tls",
    "remote-certificate": "remote.tls",
    "remote-certificate-name": "remote.tls",
    "remote-certificate-root": "remote.tls",
    "remote-certificate-expired": "remote.tls",
    "remote-client-certificate": "remote.tls",
    "remote-client-certificate-missing": "remote.tls",
    "remote-client-certificate-refused": "remote.tls",
    "remote-token-missing": "remote.token",
    "remote-token-malformed": "remote.token",
    "remote-token-expired": "remote.token",
    "remote-token-other-server": "remote.token",
    "remote-token-refused": "remote.token",
    "remote-login": "remote.token",
    "remote-tenant": "remote.token",
    "remote-engine-too-old": "remote.version",
}


def refuse(checks: Sequence[Check], evidence: Evidence) -> None:
    """Ask the checks that `up` waits for.

    Raises:
        CheckFailed: one of them fails; in its own words.
    """
    for check in checks:
        if check.stops_up:
            for seen in check.look(evidence):
                if seen.level == "fail":
                    raise CheckFailed(check.id, seen.title, hint=seen.hint or seen.command, detail=seen.detail)


def check_of(error: UpError) -> str:
    """The id of the check whose fault an error is."""
    if isinstance(error, CheckFailed):
        return error.check
    if isinstance(error, (PortTaken, PortDenied)):
        return f"port.{error.setting.removesuffix('-port')}"
    return _BY_CODE.get(error.code, REST)
