"""What was seen of a Hatchet server elsewhere -> the engine of the wanted state, or the one thing that stands against it. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from owlclaw_up.errors import RemoteUnusable
from owlclaw_up.facts import Facts
from owlclaw_up.facts.remote import KEPT, malformed, token_of
from owlclaw_up.facts.values import RemoteLook, RemoteTarget
from owlclaw_up.host.base import on_this_machine
from owlclaw_up.host.engines import version_tuple
from owlclaw_up.host.remote_base import AccountLook, ReachLook, Tenant
from owlclaw_up.model import Absent, Finding, Unknown, found
from owlclaw_up.settings import Settings
from owlclaw_up.spec import RemoteEngine
from owlclaw_up.token_claims import RENEW_BELOW_DAYS

_UP = "owlclaw-up --mode remote"
_TOKEN = f"OWLCLAW_UP_REMOTE_TOKEN=... {_UP}"
_NEW_TOKEN = f"make a new one in the dashboard (Settings, API Tokens), then: {_TOKEN}"
# Fault of a connection -> code, what is said of it, what helps.
_FAULTS: dict[str, tuple[str, str, str]] = {
    "name": ("remote-name", "its name does not resolve", "correct {setting}, or the network (DNS, VPN)"),
    "refused": ("remote-unreachable", "nobody listens there", "start that server, or correct {setting}"),
    "timeout": ("remote-unreachable", "it does not answer", "the network (VPN, firewall), or correct {setting}"),
    "unreachable": ("remote-unreachable", "it cannot be reached", "the network (VPN, firewall), or correct {setting}"),
    "proxy": (
        "remote-proxy", "the proxy in between does not let it through",
        "except the server from it: export no_proxy={host}; or have the proxy allow CONNECT to {address}",
    ),
    "certificate-name": (
        "remote-certificate-name", "its certificate is for another name",
        "{setting} with the name that is in it; or, for gRPC: OWLCLAW_UP_REMOTE_SERVER_NAME=NAME",
    ),
    "certificate-root": (
        "remote-certificate-root", "its certificate is not signed by a root that is trusted here",
        f"OWLCLAW_UP_REMOTE_CA_FILE=FILE {_UP} (the root certificate, as PEM)",
    ),
    "certificate-expired": (
        "remote-certificate-expired", "its certificate is not valid today",
        "renew it there; or, where the clock of this machine is wrong: date",
    ),
    "certificate": ("remote-certificate", "its certificate is not accepted", "see the detail"),
    "no-http2": (
        "remote-no-http2", "it speaks no HTTP/2, and gRPC is nothing else",
        "have the proxy there take HTTP/2 (nginx: listen 443 ssl http2, and grpc_pass), or correct {setting}",
    ),
    "no-upstream": (
        "remote-no-upstream", "a proxy answers there, and nobody behind it",
        "start that server, or have the proxy look for it where it is",
    ),
    "client-certificate-missing": (
        "remote-client-certificate-missing", "it demands a certificate of its client, and none is shown",
        f"OWLCLAW_UP_REMOTE_CERT_FILE=FILE OWLCLAW_UP_REMOTE_KEY_FILE=FILE OWLCLAW_UP_REMOTE_CA_FILE=FILE {_UP}",
    ),
    "client-certificate-refused": (
        "remote-client-certificate-refused", "it refuses the certificate that is shown to it",
        "one that is valid today, and signed by a root which that server trusts: openssl x509 -noout -issuer -dates -in {shown}",
    ),
}  # fmt: skip


# Bad Gateway, Service Unavailable, Gateway Timeout: of gRPC's words, of ours, of httpx's.
_NO_UPSTREAM = re.compile(r"(?:status: |HTTP |error ')50[234]\b")


def remote_engine(facts: Facts, settings: Settings) -> RemoteEngine:
    """The engine elsewhere, as it has answered.

    Raises:
        RemoteUnusable: it cannot be used as it is given.
    """
    look = found(facts.remote)
    if look is None:
        why = facts.remote.why if isinstance(facts.remote, (Absent, Unknown)) else ""
        raise RemoteUnusable("remote-unreachable", f"the remote server could not be looked at: {why}", hint=_UP)
    target = look.target
    _check_given(look)
    account, taken = look.account, look.grpc is not None and look.grpc.state == "ok"
    # One that is only near its end is better than none.
    anew = target.token is None or (account is not None and (account.state == "ok" or not taken))
    if anew:
        tenant = _tenant(look, settings).id
    else:
        _check_answers(look)
        assert target.claims is not None
        tenant = target.claims.tenant
    version = (look.grpc.version if look.grpc else "") or look.version
    sdk = found(facts.sdk)
    if sdk and version and version_tuple(version) < version_tuple(sdk.floor):
        raise RemoteUnusable(
            "remote-engine-too-old",
            f"the engine at {target.grpc_address.value} is {version}, and hatchet-sdk {sdk.version} drives engines from "
            f"{sdk.floor} on",
            hint="upgrade that engine, or take an older hatchet-sdk: pip install 'hatchet-sdk<1'",
        )
    return RemoteEngine(
        target.server_url.value, target.grpc_address.value, tenant, target.tls, target.root_ca, version,
        None if anew else target.token, target.origin, target.made, target.login,
    )  # fmt: skip


def remote_findings(facts: Facts, engine: RemoteEngine) -> list[Finding]:
    """What there is to say of a server that can be used all the same."""
    findings, look = [], found(facts.remote)
    url = urlsplit(engine.server_url)
    plain = []
    if engine.tls is None and not on_this_machine(engine.grpc_address.rpartition(":")[0].strip("[]")):
        plain.append((f"gRPC to {engine.grpc_address}", "OWLCLAW_UP_REMOTE_TLS=tls"))
    if url.scheme == "http" and not on_this_machine(url.hostname or ""):
        plain.append((f"REST to {engine.server_url}", f"OWLCLAW_UP_REMOTE_URL=https://{url.netloc}"))
    findings += [
        Finding(
            "remote.plain", "warn", f"{what} is not encrypted",
            "everybody on the way can read the token, and what tasks are given",
            f"have that server speak TLS, then: {then} owlclaw-up",
        )
        for what, then in plain
    ]  # fmt: skip
    if look is not None and engine.tls and look.target.certificate and look.target.certificate.open_to_others:
        key = engine.tls.key
        findings.append(
            Finding(
                "remote.key-rights", "warn", f"others may read {key}",
                "it is the key of the certificate that is shown over gRPC", f"chmod 600 {key}", f"chmod 600 {key}",
            )
        )  # fmt: skip
    claims = look.target.claims if look else None
    if look is not None and claims is not None and engine.token and claims.days_left(look.now) < RENEW_BELOW_DAYS:
        title = f"the token of {engine.server_url} expires in {claims.days_left(look.now)} days"
        hint = new_token(engine.made, look.target.email)
        findings.append(Finding("remote.token-expires", "warn", title, f"on {claims.expires_text[:10]}", hint))
    return findings


def new_token(made: bool, email: str) -> str:
    """What to type for another token, where the next `up` has no way to one.

    Args:
        made: whether the one before it was made by a login.
        email: of that login, where it is known.
    """
    if not made:
        return _NEW_TOKEN
    return f"OWLCLAW_UP_REMOTE_LOGIN={email or 'EMAIL'} OWLCLAW_UP_REMOTE_PASSWORD=... owlclaw-up (it makes a new one)"


def _check_given(look: RemoteLook) -> None:
    """What can be told without asking: token, addresses, offline, expiry."""
    target = look.target
    if target.trouble:
        raise RemoteUnusable("remote-token-missing", f"there is no token: {target.trouble}", hint=_TOKEN)
    if target.token is None and not target.email:
        raise RemoteUnusable(
            "remote-token-missing", "mode remote wants a Hatchet server, and neither a token nor a login to one is given",
            hint=f"{_TOKEN} (a token names its server; Hatchet Cloud: Settings, API Tokens); or, where a login may make "
            "one: OWLCLAW_UP_REMOTE_LOGIN with OWLCLAW_UP_REMOTE_URL and OWLCLAW_UP_REMOTE_GRPC",
        )  # fmt: skip
    if target.token is not None and target.claims is None:
        raise RemoteUnusable(
            "remote-token-malformed", f"{token_of(target.origin)} is none of Hatchet's, or cut off",
            hint=f"three parts of base64 with points between them are wanted: {_TOKEN}",
        )  # fmt: skip
    missing = [
        typed
        for value, typed in (
            (target.server_url.value, "OWLCLAW_UP_REMOTE_URL=https://HOST"),
            (target.grpc_address.value, "OWLCLAW_UP_REMOTE_GRPC=HOST:PORT"),
        )
        if not value
    ]
    if missing:
        says = f"{'the token' if target.token else 'a login'} does not say where {'gRPC' if target.server_url.value else 'its server'} is"
        raise RemoteUnusable(
            "remote-address", f"the address of the server is not known: {says}", hint=f"{' '.join(missing)} {_UP}"
        )
    wrong = malformed(target)
    if wrong is not None:
        what, setting = ("https://HOST", "OWLCLAW_UP_REMOTE_URL")
        if wrong is target.grpc_address:
            what, setting = ("HOST:PORT", "OWLCLAW_UP_REMOTE_GRPC")
        raise RemoteUnusable(
            "remote-address",
            f"{wrong.value!r} ({wrong.origin}) is no address: {what} is wanted",
            hint=f"set {setting}={what}",
        )
    if target.certificate and target.certificate.trouble:
        raise RemoteUnusable(
            "remote-client-certificate", f"the client's certificate cannot be used: {target.certificate.trouble}",
            hint=f"OWLCLAW_UP_REMOTE_CERT_FILE=FILE OWLCLAW_UP_REMOTE_KEY_FILE=FILE OWLCLAW_UP_REMOTE_CA_FILE=FILE {_UP} (all as "
            "PEM); without one: OWLCLAW_UP_REMOTE_TLS=tls",
        )  # fmt: skip
    if look.offline:
        where = f"{target.server_url.value}, gRPC {target.grpc_address.value}"
        raise RemoteUnusable(
            "remote-offline", f"{where} is another machine, and offline is set", hint="leave out --offline"
        )
    if target.claims is not None and target.claims.expires <= look.now and look.account is None:
        hint = new_token(target.made, target.email)
        raise RemoteUnusable(
            "remote-token-expired",
            f"{token_of(target.origin)} expired on {target.claims.expires_text[:10]}",
            hint=hint,
        )
    if target.token is None and target.login is None:
        raise RemoteUnusable(
            "remote-login", f"the password of {target.email} is not given, and there is no terminal to ask on",
            hint=f"OWLCLAW_UP_REMOTE_PASSWORD=... {_UP}",
        )  # fmt: skip


def _tenant(look: RemoteLook, settings: Settings) -> Tenant:
    """The tenant for which the login makes a token.

    Raises:
        RemoteUnusable: gRPC or REST does not answer, or the login has no tenant, or several.
    """
    target, account = look.target, look.account
    if look.grpc_reach is not None and look.grpc_reach.fault:
        raise _no_way(look, "gRPC", look.grpc_reach, look.grpc_reach.detail)
    assert account is not None
    if account.state == "unavailable":
        raise _no_way(look, "REST", look.rest_reach or ReachLook(), account.detail)
    if account.state == "refused":
        raise RemoteUnusable(
            "remote-login", f"{target.server_url.value} refuses the login of {target.email}",
            hint="correct OWLCLAW_UP_REMOTE_LOGIN and OWLCLAW_UP_REMOTE_PASSWORD; a login by Google or GitHub has no "
            f"password: make a token in the dashboard, then: {_TOKEN}", detail=account.detail,
        )  # fmt: skip
    return _choose_tenant(account, settings.remote_tenant.value, target.email)


def _choose_tenant(account: AccountLook, wanted: str, email: str) -> Tenant:
    tenants = [t for t in account.tenants if not wanted or wanted in (t.id, t.name, t.slug)]
    if len(tenants) == 1:
        return tenants[0]
    listed = "\n".join(f"{t.name} ({t.slug}): {t.id}" for t in account.tenants)
    if not account.tenants:
        why, hint = "is a member of no tenant", "have somebody invite it, in the dashboard"
    else:
        why = f"is in {len(account.tenants)} tenants" + (f", and {wanted!r} names none of them" if wanted else "")
        hint = f"OWLCLAW_UP_REMOTE_TENANT={account.tenants[0].slug or account.tenants[0].id} {_UP}"
    raise RemoteUnusable("remote-tenant", f"{email} {why}", hint=hint, detail=listed)


def _check_answers(look: RemoteLook) -> None:
    """gRPC and REST take the token.

    Raises:
        RemoteUnusable: one of them does not.
    """
    target, grpc, rest = look.target, look.grpc, look.rest
    claims, url, address = target.claims, target.server_url.value, target.grpc_address.value
    assert claims is not None
    assert grpc is not None
    assert rest is not None
    if grpc.state == "unavailable":
        raise _no_way(look, "gRPC", look.grpc_reach or ReachLook(), grpc.detail)
    if rest.state == "unavailable" or (rest.state == "failed" and rest.status != 404):
        words = f"HTTP {rest.status}: {rest.detail}" if rest.status else rest.detail
        raise _no_way(look, "REST", look.rest_reach or ReachLook(), words)
    if grpc.state == "ok" and rest.state == "ok":
        return
    said = f"gRPC: {grpc.detail or 'takes it'}\nREST: {rest.status} {rest.detail}".rstrip()
    if (grpc.state == "ok") != (rest.state == "ok"):
        takes, refuses = ("gRPC", "REST") if grpc.state == "ok" else ("REST", "gRPC")
        raise RemoteUnusable(
            "remote-split", f"{url} and gRPC {address} are two servers: {takes} takes the token, {refuses} does not",
            hint=f"correct {_named(target, 'gRPC')} or {_named(target, 'REST')}", detail=said,
        )  # fmt: skip
    if claims.server_url.rstrip("/") != url:
        raise RemoteUnusable(
            "remote-token-other-server", f"{token_of(target.origin)} is for {claims.server_url}, and {url} refuses it",
            hint=f"a token of {url}; or leave out {_named(target, 'REST')} and {_named(target, 'gRPC')}: the token says "
            "where its server is", detail=said,
        )  # fmt: skip
    raise RemoteUnusable(
        "remote-token-refused", f"{url} refuses {token_of(target.origin)}: revoked, or of another installation",
        hint=new_token(target.made, target.email), detail=said,
    )  # fmt: skip


def _named(target: RemoteTarget, channel: str) -> str:
    """What is to be corrected where an address is wrong: the setting, or the place that says it."""
    value = target.grpc_address if channel == "gRPC" else target.server_url
    setting = "OWLCLAW_UP_REMOTE_GRPC" if channel == "gRPC" else "OWLCLAW_UP_REMOTE_URL"
    return value.origin if value.origin not in ("the token", KEPT) else setting


def _no_way(look: RemoteLook, channel: str, reach: ReachLook, words: str) -> RemoteUnusable:
    """A call that did not get through, with the fault that the second look has found."""
    target = look.target
    value = target.grpc_address if channel == "gRPC" else target.server_url
    where = f"{channel} at {value.value} ({value.origin})"
    detail = "\n".join(dict.fromkeys(text for text in (reach.detail, words) if text))
    fault = reach.fault
    if not fault and _NO_UPSTREAM.search(words):
        fault = "no-upstream"
    if fault in ("tls-missing", "tls-unexpected"):
        return _other_tls(target, channel, where, fault, detail)
    if not fault and channel == "gRPC" and any(w in words.lower() for w in ("certificate", "handshake", "ssl")):
        # gRPC has a list of roots of its own, and asks the system's for none.
        fault = "certificate-root"
    if fault in _FAULTS:
        code, why, hint = _FAULTS[fault]
        host = value.value.rpartition(":")[0] if channel == "gRPC" else value.value
        setting, shown = _named(target, channel), target.tls.certificate if target.tls else ""
        hint = hint.format(setting=setting, host=host, address=value.value, shown=shown)
        if fault.startswith("client-") and channel == "REST":
            hint = f"have that server ask for none over REST, where hatchet-sdk shows none; or correct {setting}"
        return RemoteUnusable(code, f"{where} cannot be used: {why}", hint=hint, detail=detail)
    if "unimplemented" in words.lower():
        return RemoteUnusable(
            "remote-engine-too-old", f"{where} is an engine too old for hatchet-sdk, or none of Hatchet's",
            hint=f"upgrade that engine, or correct {_named(target, channel)}", detail=detail,
        )  # fmt: skip
    return RemoteUnusable(
        "remote-not-hatchet", f"{where} does not answer as Hatchet does",
        hint=f"correct {_named(target, channel)}" + ("; a proxy has to pass gRPC on as gRPC" if channel == "gRPC" else ""),
        detail=detail,
    )  # fmt: skip


def _other_tls(target: RemoteTarget, channel: str, where: str, fault: str, detail: str) -> RemoteUnusable:
    missing = fault == "tls-missing"
    if channel == "REST":
        scheme = "http" if missing else "https"
        hint = f"OWLCLAW_UP_REMOTE_URL={scheme}://{target.server_url.value.partition('://')[2]} {_UP}"
    else:
        hint = f"OWLCLAW_UP_REMOTE_TLS={'none' if missing else 'tls'} {_UP}"
    if missing:
        hint += " (the token then goes there unencrypted), or have that server speak TLS"
        return RemoteUnusable(
            "remote-tls-missing", f"{where} speaks plain text, and TLS is expected{_because(target, channel)}",
            hint=hint, detail=detail,
        )  # fmt: skip
    return RemoteUnusable(
        "remote-tls-unexpected", f"{where} speaks TLS, and plain text is expected{_because(target, channel)}", hint=hint,
        detail=detail,
    )  # fmt: skip


def _because(target: RemoteTarget, channel: str) -> str:
    if channel == "REST":
        return ""
    return f" (by {target.tls_from})" if target.tls_from != "default" else ""
