"""A Hatchet server elsewhere: is it reached, is it spoken to as it speaks, does it take the token, is it new enough. For `remote`."""

from __future__ import annotations

from collections.abc import Iterator

from owlclaw_up.checks.base import UP, Check, Evidence, Look, Seen, of_error, ok
from owlclaw_up.checks.preconditions import check_of
from owlclaw_up.checks.token import findings_of, seen_of
from owlclaw_up.errors import RemoteUnusable
from owlclaw_up.facts.remote import token_of
from owlclaw_up.model import Mode, found
from owlclaw_up.remote_design import remote_engine, remote_findings
from owlclaw_up.spec import RemoteEngine


def _engine(evidence: Evidence) -> RemoteEngine | RemoteUnusable | None:
    """The server as it has answered, or what stands against it, also where something else stops `up` before; None elsewhere."""
    if evidence.settings.mode.value is not Mode.REMOTE or found(evidence.facts.remote) is None:
        return None
    try:
        return remote_engine(evidence.facts, evidence.settings)
    except RemoteUnusable as error:
        return error


def _reach(engine: RemoteEngine) -> str:
    return f"{engine.server_url} and gRPC {engine.grpc_address} answer"


def _tls(engine: RemoteEngine) -> str:
    shown = ", with a certificate of the client," if engine.tls and engine.tls.certificate else ","
    return f"gRPC speaks {'TLS' if engine.tls else 'plain text'}{shown} as programs do"


def _token(engine: RemoteEngine) -> str:
    return f"it takes {token_of(engine.origin)}" if engine.token else "a login makes a token there"


def _version(engine: RemoteEngine) -> str:
    return f"its engine is {engine.version or 'one that does not tell its version'}"


def _speaks(name: str) -> Look:
    """A look at one kind of fault: of the server as `up` would use it, else of the calls that programs make."""
    well = {"remote.reach": _reach, "remote.tls": _tls, "remote.token": _token, "remote.version": _version}[name]

    def look(evidence: Evidence) -> Iterator[Seen]:
        engine = _engine(evidence)
        if isinstance(engine, RemoteUnusable):
            if check_of(engine) == name:
                yield of_error(engine)
        elif engine is not None:
            yield from [seen_of(f) for f in findings_of(evidence) if f.id == name] or [ok(well(engine))]

    return look


def _warns(name: str, fine: str) -> Look:
    """A look at what `up` warns of, too, under the same name."""

    def look(evidence: Evidence) -> Iterator[Seen]:
        engine = _engine(evidence)
        if isinstance(engine, RemoteEngine):
            findings = [f for f in remote_findings(evidence.facts, engine) if f.id == name]
            yield from [Seen(f.level, f.title, f.detail, f.hint, f.command) for f in findings] or [ok(fine)]

    return look


_PROBES = ("remote", "tokens")
CHECKS: tuple[Check, ...] = (
    Check(
        "remote.reach", "the Hatchet server elsewhere answers, over REST and gRPC",
        "`failed to connect to all addresses`, `Name resolution failed`, `DEADLINE_EXCEEDED`; `up` ends with exit 3: `remote-*`",
        "it is down, the network (VPN, DNS, proxy) is, or an address is another one's", "no worker connects, and no run is triggered",
        "correct OWLCLAW_UP_REMOTE_URL or OWLCLAW_UP_REMOTE_GRPC, or the network", _speaks("remote.reach"), _PROBES,
        fixable=True,
    ),
    Check(
        "remote.tls", "TLS is spoken with the server elsewhere as it speaks it", "`WRONG_VERSION_NUMBER`, `CERTIFICATE_VERIFY_FAILED`, `CERTIFICATE_REQUIRED`",
        "plain text where TLS is wanted or the reverse; a certificate of a root or a name that is not expected; none of the client's where one is demanded",
        "no call gets through",
        "OWLCLAW_UP_REMOTE_TLS, OWLCLAW_UP_REMOTE_CA_FILE, OWLCLAW_UP_REMOTE_SERVER_NAME, or OWLCLAW_UP_REMOTE_CERT_FILE with OWLCLAW_UP_REMOTE_KEY_FILE",
        _speaks("remote.tls"), _PROBES, ("remote.reach",), fixable=True,
    ),
    Check(
        "remote.plain", "what goes to the server elsewhere is encrypted", "nothing",
        "that server speaks plain text over a network", "everybody on the way can read the token, and what tasks are given",
        "have that server speak TLS", _warns("remote.plain", "over TLS, or to this machine alone"), ("remote",),
    ),
    Check(
        "remote.key-rights", "nobody else may read the key of the client's certificate", "nothing",
        "it was copied with the rights that new files have", "who has that key can show the certificate of this client",
        "chmod 600 KEY", _warns("remote.key-rights", "its owner alone reads it, or there is none"), ("remote",),
    ),
    Check(
        "remote.token", "the server elsewhere takes the token, or the login that makes one", "`invalid auth token`, HTTP 403",
        "none is given; it was cut off, has expired, was revoked, or is another server's", "it refuses every call without a good one",
        f"OWLCLAW_UP_REMOTE_TOKEN=... {UP}", _speaks("remote.token"), _PROBES, ("remote.reach", "remote.tls"),
    ),
    Check(
        "remote.token-expires", "the token of the server elsewhere is good for 14 days and more", "nothing yet",
        "it was made for a time, and one that was given is not renewed by owlclaw-up", "every program stops on that day",
        f"OWLCLAW_UP_REMOTE_TOKEN=... {UP}", _warns("remote.token-expires", "it does not end soon"), ("remote",),
    ),
    Check(
        "remote.version", "hatchet-sdk drives the engine elsewhere", "`UNIMPLEMENTED`, `DeprecationError`",
        "that engine is older than hatchet-sdk asks for", "the SDK takes its legacy path, which fails at random",
        "upgrade that engine, or take an older hatchet-sdk", _speaks("remote.version"), ("remote", "tokens", "sdk"),
        ("remote.reach", "remote.tls"),
    ),
)  # fmt: skip
