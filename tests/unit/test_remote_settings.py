"""What `remote` adds to the settings: that it stays, and the database that somebody gave the application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import BadSetting, RemoteUnusable
from owlclaw_up.facts.place import REMOTE
from owlclaw_up.facts.remote import TOKEN
from owlclaw_up.model import Mode, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.remote_settings import carried, with_remote
from owlclaw_up.settings import Settings, application_database, load, wanted_databases
from tests.unit.fakes import make_host, make_ledger, make_token

CLOUD = "postgresql+asyncpg://app:s3cret@db.example.com:6432/prod?ssl=verify-full"


def completed(project: Path, ledger: Ledger | None = None, **flags: Any) -> Settings:
    return with_remote(load(project, {}, flags), ledger or make_ledger(project), make_host())


def kept(project: Path, **values: Any) -> Ledger:
    """A project that an `up` in `remote` has left."""
    ledger = make_ledger(project)
    ledger.state.mode, ledger.vault.token = "remote", make_token(token_id="t-1")
    place = {"server_url": "https://h", "grpc_address": "h:443", "tenant": "t", "tls": True, "root_ca": "/ca.pem"}
    ledger.state.data[REMOTE] = place
    for name, value in values.items():
        setattr(ledger.vault, name, value)
    return ledger


def test_a_project_stays_in_remote_until_another_mode_is_asked_for(tmp_path: Path) -> None:
    assert completed(tmp_path).mode.value is None
    stays = completed(tmp_path, kept(tmp_path))
    assert (stays.mode.value, stays.mode.source) == (Mode.REMOTE, "state")
    assert completed(tmp_path, kept(tmp_path), mode="native").mode.value is Mode.NATIVE


def test_hatchets_database_is_wanted_in_every_other_mode(tmp_path: Path) -> None:
    assert [d.name for d in wanted_databases(completed(tmp_path, mode="remote"))] == ["owlclaw"]
    assert [d.name for d in wanted_databases(completed(tmp_path, mode="mock"))] == ["hatchet", "owlclaw"]


def test_a_database_elsewhere_in_the_dotenv_file_is_the_applications(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={CLOUD}\nPGSSLROOTCERT=/etc/root.pem\n")
    settings = completed(tmp_path, mode="remote")
    own = application_database(settings)
    assert (own.name, own.role, own.extensions, own.given) == ("prod", "app", (), True)
    assert [d.name for d in wanted_databases(settings)] == ["prod"]
    assert settings.admin_url.value is not None and settings.admin_url.origin == "DATABASE_URL in .env"
    assert settings.admin_url.value.reveal() == (
        "postgresql://app:s3cret@db.example.com:6432/prod?sslmode=verify-full&sslrootcert=%2Fetc%2Froot.pem"
    )
    # Another mode takes no notice, and a login that may make databases comes first.
    assert completed(tmp_path, mode="native").admin_url.value is None
    named = completed(tmp_path, mode="remote", admin_url="postgresql://postgres@db/postgres")
    assert [d.name for d in wanted_databases(named)] == ["owlclaw"]


@pytest.mark.parametrize(
    "url", ["postgresql://app:s3cret@localhost/prod", "postgresql://app:ours@db.example.com/prod", "mysql://x/y"]
)
def test_a_database_of_this_machine_or_of_ours_is_none_that_was_given(tmp_path: Path, url: str) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={url}\n")
    ledger = make_ledger(tmp_path)
    ledger.vault.passwords["app"] = "ours"
    assert completed(tmp_path, ledger, mode="remote").remote_database_url.value is None


def test_a_given_database_is_kept(tmp_path: Path) -> None:
    ledger = kept(tmp_path, admin_url="postgresql://app:s3cret@db/prod")
    assert completed(tmp_path, ledger).remote_database_url.value is None, "that was an admin's"
    ledger.state.data["postgres"] = {"given": True}
    assert application_database(completed(tmp_path, ledger)).name == "prod"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"remote_database_url": CLOUD, "admin_url": CLOUD}, "one of the two"),
        ({"remote_database_url": "nonsense"}, "postgresql://"),
        ({"remote_database_url": "postgresql://db.example.com/prod"}, "USER:PASSWORD"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_without_its_password(
    tmp_path: Path, flags: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        completed(tmp_path, mode="remote", **flags)
    assert why in caught.value.message and "s3cret" not in caught.value.message


def test_a_reset_takes_the_given_server_with_it(tmp_path: Path) -> None:
    ledger = kept(tmp_path)
    settings = carried(completed(tmp_path, ledger), ledger)
    assert settings.remote_token.value == Secret(ledger.vault.token)
    assert (settings.remote_url.value, settings.remote_grpc.value, settings.remote_tls.value) == (
        "https://h",
        "h:443",
        "tls",
    )
    assert settings.remote_ca_file.value == Path("/ca.pem")
    assert carried(completed(tmp_path, ledger, mode="native"), ledger).remote_url.value == ""


def test_a_reset_whose_token_a_login_made_wants_that_login(tmp_path: Path) -> None:
    ledger = kept(tmp_path)
    ledger.prepare()
    ledger.record(TOKEN, id="t-1", server="https://h", tenant="t")
    with pytest.raises(RemoteUnusable, match="made by a login"):
        carried(completed(tmp_path, ledger), ledger)
    login: dict[str, Any] = {"remote_login": "me@example.com", "remote_password": "pw"}
    assert carried(completed(tmp_path, ledger, **login), ledger).remote_token.value is None
