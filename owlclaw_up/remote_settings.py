"""What mode `remote` adds to the settings before anything is looked at: that it stays, and the database that is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from owlclaw_up import dotenv_text
from owlclaw_up.errors import BadSetting
from owlclaw_up.facts.place import kept_remote
from owlclaw_up.facts.remote import TOKEN
from owlclaw_up.host.base import ServerLogin, on_this_machine
from owlclaw_up.host.machine import Host
from owlclaw_up.host.postgres_url import parse_url, url_of
from owlclaw_up.model import Mode, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.setting_values import DatabaseSetting, Sourced
from owlclaw_up.settings import Settings
from owlclaw_up.steps.remote import login_wanted
from owlclaw_up.token_claims import decode

_STAYS = "the last successful up used it"


def with_remote(settings: Settings, ledger: Ledger, host: Host) -> Settings:
    """The settings as they count: a project that is in `remote` stays there, and a given database is a wanted one.

    Raises:
        BadSetting: the database's URL cannot be used, or there are two servers.
    """
    if settings.mode.value is None and ledger.state.mode == Mode.REMOTE.value:
        settings = dataclasses.replace(settings, mode=Sourced(Mode.REMOTE, "state", _STAYS))
    if settings.mode.value is not Mode.REMOTE:
        return settings
    given = settings.remote_database_url
    if given.value is not None and settings.admin_url.value is not None:
        why = f"{settings.admin_url.origin} names a server as well, and databases are made there; one of the two"
        raise BadSetting("remote_database_url", "***", given.origin, why)
    if given.value is None and settings.admin_url.value is None:
        given = _in_dotenv(settings, ledger, host) or _kept(ledger) or given
    if given.value is None:
        return settings
    try:
        login = parse_url(given.value.reveal(), "")
    except ValueError as error:
        raise BadSetting("remote_database_url", "***", given.origin, str(error)) from None
    if not login.user or not login.database:
        raise BadSetting(
            "remote_database_url", "***", given.origin, "postgresql://USER:PASSWORD@HOST/DATABASE is wanted"
        )
    own = DatabaseSetting(login.database, login.user, (), given=True)
    others = tuple(d for d in settings.databases.value if d.name != own.name)
    return dataclasses.replace(
        settings, remote_database_url=given, admin_url=Sourced(given.value, given.source, given.origin),
        databases=dataclasses.replace(settings.databases, value=(own, *others)),
    )  # fmt: skip


def _in_dotenv(settings: Settings, ledger: Ledger, host: Host) -> Sourced[Secret | None] | None:
    """The application's URL in the dotenv file, where it names another machine and is none that we wrote."""
    path, names = settings.env_file.value, settings.env_names.value
    try:
        values = dotenv_text.values(host.files.read(ledger.project / path) or b"")
    except (OSError, dotenv_text.DotenvError):
        return None
    for key in ("DATABASE_URL", "OWLCLAW_DATABASE_URL"):
        name = names.get(key, key)
        try:
            login = parse_url(values.get(name, ""), "")
        except ValueError:
            continue
        password = login.password.reveal() if login.password else None
        if on_this_machine(login.host) or (password and ledger.vault.passwords.get(login.user) == password):
            continue
        return Sourced(
            _with_root(login, values.get(names.get("PGSSLROOTCERT", "PGSSLROOTCERT"), "")), "env", f"{name} in {path}"
        )
    return None


def _with_root(login: ServerLogin, root_ca: str) -> Secret:
    """The URL for libpq; asyncpg is told a root certificate by a variable of its own."""
    options = dict(login.options)
    if root_ca and options.get("sslmode", "").startswith("verify-"):
        options.setdefault("sslrootcert", root_ca)
    return url_of(dataclasses.replace(login, options=tuple(sorted(options.items()))))


def _kept(ledger: Ledger) -> Sourced[Secret | None] | None:
    if not ledger.recall("postgres").get("given") or not ledger.vault.admin_url:
        return None
    return Sourced(Secret(ledger.vault.admin_url), "state", "the URL that owlclaw-up keeps")


def carried(project_settings: Settings, ledger: Ledger) -> Settings:
    """The settings for an `up` after a purge, which forgets the server that was given and its token.

    Raises:
        RemoteUnusable: the token is one that a login made, and that login is not given, so that no new one could be made.
    """
    place, claims = kept_remote(ledger), decode(ledger.vault.token)
    settings = project_settings
    if settings.mode.value is not Mode.REMOTE or ledger.state.mode != Mode.REMOTE.value or place is None:
        return settings
    made = claims is not None and bool(ledger.receipts(TOKEN, id=claims.token_id))
    if made and not (settings.remote_token.value or (settings.remote_login.value and settings.remote_password.value)):
        raise login_wanted(place.server_url, "owlclaw-up reset")
    kept: dict[str, object] = {
        "remote_url": place.server_url,
        "remote_grpc": place.grpc_address,
        "remote_tls": place.tls.strategy if place.tls else "none",
        "remote_server_name": place.tls.server_name if place.tls else "",
    }
    if place.root_ca:
        kept["remote_ca_file"] = Path(place.root_ca)
    if place.tls and place.tls.certificate:
        kept |= {"remote_cert_file": Path(place.tls.certificate), "remote_key_file": Path(place.tls.key)}
    if claims is not None and not made:
        kept["remote_token"] = Secret(ledger.vault.token)
    changed = {
        name: Sourced(value, "state", "the state before the reset")
        for name, value in kept.items()
        if not getattr(settings, name).value
    }
    return dataclasses.replace(settings, **changed)  # type: ignore[arg-type]
