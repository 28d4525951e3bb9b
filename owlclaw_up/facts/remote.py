"""The server of mode `remote`: which one is meant, by settings, token and what was kept; and what it answers. Reads only.

`remote_design` judges.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from owlclaw_up import dotenv_text
from owlclaw_up.facts.dotenv import SHELL
from owlclaw_up.facts.place import kept_remote
from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.facts.values import RemoteLook, RemoteTarget
from owlclaw_up.host.base import GrpcLook, RestLook, Tls, on_this_machine
from owlclaw_up.host.machine import Host
from owlclaw_up.host.remote_base import HANDSHAKE_STATUSES, CertificateLook, ReachLook
from owlclaw_up.model import Absent, Fact, Found, Mode, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.setting_values import Sourced
from owlclaw_up.settings import Settings
from owlclaw_up.spec import RemoteLogin
from owlclaw_up.token_claims import Claims, decode, is_placeholder, renewal_due

# Receipts of the tokens that we made by a login.
TOKEN = "remote-token"  # noqa: S105 - a kind of receipt
KEPT = "kept by owlclaw-up"


def token_of(origin: str) -> str:
    """A token with the place it comes from, for the reader."""
    return f"the token {origin}" if origin == KEPT else f"the token of {origin}"


@dataclass(frozen=True)
class _Patience:
    """Seconds, of one call, and of each step of a look at what is wrong with it. REST takes its own twice: to connect, to read."""

    grpc: float
    rest: float
    reach: float


_USUAL, _BRIEF = _Patience(5.0, 4.0, 3.0), _Patience(1.5, 1.0, 0.9)


def look_at_remote(host: Host, settings: Settings, ledger: Ledger, *, brief: bool) -> Fact[RemoteLook]:
    """Which server is meant, and what it answers; `Absent` where the mode is another one.

    Args:
        brief: whether one that is slow is one that does not answer.
    """
    if settings.mode.value is not Mode.REMOTE:
        return Absent("it is used only when asked for: it wants a server of yours", "owlclaw-up --mode remote")
    target, now = resolve(host, settings, ledger), host.clock.now()
    url, address, claims = target.server_url.value, target.grpc_address.value, target.claims
    hopeless = not url or not address or malformed(target) or (target.token is not None and claims is None)
    if hopeless or (target.certificate and target.certificate.trouble):
        return Found(RemoteLook(target, now))
    if settings.offline.value and not (_is_here(url) and on_this_machine(address.rpartition(":")[0].strip("[]"))):
        return Found(RemoteLook(target, now, offline=True))
    due = target.made and claims is not None and renewal_due(claims, now, settings.token_lifetime.value * 3600.0)
    patience = _BRIEF if brief else _USUAL
    answers = ask(
        {"grpc": lambda: _ask_grpc(host, target, now, patience), "rest": lambda: _ask_rest(host, target, now, patience)}
    )
    (grpc, grpc_reach), (rest, rest_reach) = answers["grpc"], answers["rest"]
    account, version = None, ""
    useless = (grpc is not None and grpc.state == "refused-token") or _expired(claims, now)
    # A token that was given is not renewed; one that is kept and no good any more gives way to a login.
    if target.login and (
        target.token is None or (due and target.made) or (useless and (target.made or target.origin == KEPT))
    ):
        account = host.remote.account(url, target.root_ca, target.login.email, target.login.password)
        if account.state == "unavailable" and rest_reach is None:
            rest_reach = host.remote.reach_rest(url, target.root_ca, patience.reach)
        version = _version(host, target, patience)
    return Found(RemoteLook(target, now, grpc, rest, grpc_reach, rest_reach, account, due, version=version))


def malformed(target: RemoteTarget) -> Sourced[str] | None:
    """The address that cannot be one, where one of them is none: a token or a dotenv file may say anything."""
    url, address = target.server_url, target.grpc_address
    try:
        parts = urlsplit(url.value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        return url
    host, _, port = address.value.rpartition(":")
    number = int(port) if re.fullmatch("[0-9]{1,5}", port) else 0
    return None if host and "/" not in host and 0 < number < 65536 else address


def _expired(claims: Claims | None, now: float) -> bool:
    return claims is not None and claims.expires <= now


def _is_here(url: str) -> bool:
    return on_this_machine(urlsplit(url).hostname or "")


def _ask_grpc(
    host: Host, target: RemoteTarget, now: float, patience: _Patience
) -> tuple[GrpcLook | None, ReachLook | None]:  # fmt: skip
    """GetVersion, and where that does not get through, or there is no token to ask with, what is there instead."""
    address, look = target.grpc_address.value, None
    if target.token is not None and not _expired(target.claims, now):
        look = host.hatchet.grpc_version(address, target.token, patience.grpc, tls=target.tls)
        if look.state != "unavailable":
            return look, None
    return look, host.remote.reach_grpc(address, target.tls, patience.reach)


def _ask_rest(
    host: Host, target: RemoteTarget, now: float, patience: _Patience
) -> tuple[RestLook | None, ReachLook | None]:  # fmt: skip
    url, claims = target.server_url.value, target.claims
    if target.token is None or claims is None or _expired(claims, now):
        return None, None
    look = host.hatchet.rest_tenant(url, claims.tenant, target.token, patience.rest, root_ca=target.root_ca)
    if look.state != "unavailable" and look.status not in HANDSHAKE_STATUSES:
        return look, None
    return look, host.remote.reach_rest(url, target.root_ca, patience.reach)


def _version(host: Host, target: RemoteTarget, patience: _Patience) -> str:
    """The engine's version as REST says it to everybody; empty where it does not."""
    answer = host.hatchet.page(f"{target.server_url.value}/api/v1/version", patience.rest, root_ca=target.root_ca)
    try:
        return str(json.loads(answer[2])["version"]) if answer and answer[0] == 200 else ""
    except (ValueError, KeyError, TypeError):
        return ""


@dataclass(frozen=True)
class _Place:
    """Where a token comes from, with what stands beside it there.

    Attributes:
        values: the variables there, by the names that hatchet-sdk gives them.
    """

    text: str
    origin: str
    values: Mapping[str, str]
    trouble: str = ""


def resolve(host: Host, settings: Settings, ledger: Ledger) -> RemoteTarget:
    """The server that is meant: settings first, then what stands beside the token, what was kept, and the token itself."""
    place = _token_place(host, settings, ledger)
    claims = decode(place.text)
    kept = kept_remote(ledger)

    def first(setting: Sourced[str], key: str, of_kept: str, of_claims: str) -> Sourced[str]:
        if setting.value:
            return setting
        if place.values.get(key):
            return Sourced(place.values[key], "env", f"{key} in {place.origin}")
        if place.origin == KEPT and of_kept:
            return Sourced(of_kept, "state", KEPT)
        if of_claims:
            return Sourced(of_claims, "token", "the token")
        # Before a login has made a token, what was kept of the same server is all that is known.
        return Sourced(of_kept if not place.text else "", "state", KEPT)

    url = first(
        settings.remote_url, "HATCHET_CLIENT_SERVER_URL", kept.server_url if kept else "", claims.server_url if claims else ""
    )  # fmt: skip
    grpc = first(
        settings.remote_grpc, "HATCHET_CLIENT_HOST_PORT", kept.grpc_address if kept else "",
        claims.grpc_address if claims else "",
    )  # fmt: skip
    same = kept if kept is not None and kept.grpc_address == grpc.value else None
    before = (same.tls if same else None) or Tls()

    def file(setting: Sourced[Path | None], key: str, of_kept: str) -> str:
        given = setting.value or Path(place.values.get(key) or "")
        return of_kept if given == Path() else str((ledger.project / given).absolute())

    root_ca = file(settings.remote_ca_file, "HATCHET_CLIENT_TLS_ROOT_CA_FILE", same.root_ca if same else "")
    name = settings.remote_server_name.value or place.values.get("HATCHET_CLIENT_TLS_SERVER_NAME", "")
    name = name or before.server_name
    strategy, tls_from = _strategy(settings, place, grpc.value)
    if same is not None and tls_from == "default":
        strategy, tls_from = (same.tls.strategy if same.tls else "none"), KEPT
    certificate, shown, key = None, "", ""
    if strategy == "mtls":
        shown = file(settings.remote_cert_file, "HATCHET_CLIENT_TLS_CERT_FILE", before.certificate)
        key = file(settings.remote_key_file, "HATCHET_CLIENT_TLS_KEY_FILE", before.key)
        certificate = _look_at_certificate(host, shown, key, root_ca)
    made = made_by_login(ledger, claims)
    return RemoteTarget(
        Secret(place.text) if place.text else None, place.origin, made, claims, place.trouble,
        Sourced(url.value.rstrip("/"), url.source, url.origin), grpc,
        None if strategy == "none" else Tls(root_ca, name, shown, key), tls_from, root_ca, settings.remote_login.value,
        given_login(settings), certificate,
    )  # fmt: skip


def _look_at_certificate(host: Host, certificate: str, key: str, root_ca: str) -> CertificateLook:
    """Whether hatchet-sdk could show that certificate: it wants all three files, and none by itself."""
    wanted = (
        (certificate, "remote_cert_file, the certificate"),
        (key, "remote_key_file, its key"),
        (root_ca, "remote_ca_file, the root of the server's own certificate"),
    )
    missing = [what for file, what in wanted if not file]
    if missing:
        return CertificateLook(f"mtls wants three files, and this is not given: {'; '.join(missing)}")
    return host.remote.certificate(certificate, key)


def made_by_login(ledger: Ledger, claims: Claims | None) -> bool:
    """Whether a token is one that we had made there."""
    return claims is not None and bool(ledger.receipts(TOKEN, id=claims.token_id))


def given_login(settings: Settings) -> RemoteLogin | None:
    """The login to a server elsewhere, where it is given whole."""
    email, password = settings.remote_login.value, settings.remote_password.value
    return RemoteLogin(email, password) if email and password else None


def _strategy(settings: Settings, place: _Place, address: str) -> tuple[str, str]:
    """`tls`, `mtls` or `none`, and what says so. Nobody's token goes over a network in plain text unless told to."""
    if settings.remote_tls.value:
        return settings.remote_tls.value, settings.remote_tls.origin
    for given in (settings.remote_cert_file, settings.remote_key_file):
        if given.value is not None:
            return "mtls", given.origin
    said = place.values.get("HATCHET_CLIENT_TLS_STRATEGY", "").lower()
    if said in ("tls", "mtls", "none"):
        return said, f"HATCHET_CLIENT_TLS_STRATEGY in {place.origin}"
    return ("none" if on_this_machine(address.rpartition(":")[0].strip("[]")) else "tls"), "default"


def _token_place(host: Host, settings: Settings, ledger: Ledger) -> _Place:
    """The token: of a setting, else of the shell or the dotenv file, else the kept one.

    One that belongs to an engine of ours is none of that server's, and a placeholder is none at all.
    """
    if settings.remote_token.value is not None:
        return _Place(settings.remote_token.value.reveal().strip(), settings.remote_token.origin, {})
    path = settings.remote_token_file.value
    if path is not None:
        path = ledger.project / path
        try:
            return _Place(path.read_text(encoding="utf-8").strip(), str(path), {})
        except (OSError, UnicodeDecodeError) as error:
            why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is not UTF-8"
            return _Place("", str(path), {}, f"{path} cannot be read: {why}")
    in_remote = ledger.state.mode == Mode.REMOTE.value
    kept = ledger.vault.token if in_remote else ""
    if not settings.remote_login.value:
        for origin, values in (
            (SHELL, host.environ),
            (settings.env_file.value.name, _in_dotenv(host, settings, ledger)),
        ):
            beside = _of_sdk(values, settings.env_names.value)
            text = beside.get("HATCHET_CLIENT_TOKEN") or beside.get("HATCHET_API_TOKEN") or ""
            ours = text == ledger.vault.token or any(
                (claims := decode(text)) is not None and r.identity.get("id") == claims.token_id
                for r in ledger.receipts("token")
            )
            if text and not ours and not is_placeholder(text):
                return _Place(text, origin, beside)
    return _Place(kept, KEPT if kept else "", {})


def _of_sdk(values: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Variables of Hatchet's by hatchet-sdk's names."""
    keys = [
        "HATCHET_CLIENT_TOKEN", "HATCHET_API_TOKEN", "HATCHET_CLIENT_SERVER_URL", "HATCHET_CLIENT_HOST_PORT",
        "HATCHET_CLIENT_TLS_STRATEGY", "HATCHET_CLIENT_TLS_ROOT_CA_FILE", "HATCHET_CLIENT_TLS_SERVER_NAME",
        "HATCHET_CLIENT_TLS_CERT_FILE", "HATCHET_CLIENT_TLS_KEY_FILE",
    ]  # fmt: skip
    return {key: values[names.get(key, key)].strip() for key in keys if values.get(names.get(key, key), "").strip()}


def _in_dotenv(host: Host, settings: Settings, ledger: Ledger) -> Mapping[str, str]:
    try:
        return dotenv_text.values(host.files.read(ledger.project / settings.env_file.value) or b"")
    except (OSError, dotenv_text.DotenvError):
        return {}
