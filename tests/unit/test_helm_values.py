"""Values for Hatchet's charts: what a YAML parser reads in them, what they never hold, and what they say must be done."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from owlclaw_up.errors import UsageError
from owlclaw_up.export import HelmWish
from owlclaw_up.helm_values import CHARTS, KEYS_OBJECT, HelmExport, secret, values
from owlclaw_up.spec import TENANT_ID

SECRETS = {
    "DATABASE_URL": "postgresql://hatchet:p%40ss@db.example.com:5432/hatchet",
    "SERVER_AUTH_COOKIE_SECRETS": "0123456789abcdef 0123456789abcdef",
    "ADMIN_PASSWORD": 'a"b\\c: #d',
}
BOTH = pytest.mark.parametrize("chart", CHARTS)


def export(chart: str = "hatchet-ha", **given: Any) -> HelmExport:
    usual: dict[str, Any] = {
        "chart": chart, "tag": "v0.107.2", "server_url": "https://hatchet.example.com:8443",
        "grpc_address": "engine.example.com:443", "moved": True, "admin_email": "admin@example.com", "tenant": TENANT_ID,
        "rabbitmq_host": "mq.example.com", "database_host": "db.example.com", "secrets": SECRETS,
    }  # fmt: skip
    return HelmExport(**{**usual, **given})


def read(chart: str = "hatchet-ha", **given: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(values(export(chart, **given)))
    return document


def parts(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: document[name] for name in document if name not in ("sharedConfig", "postgres", "rabbitmq", "frontend")
    }


@BOTH
def test_what_is_not_wanted_is_off(chart: str) -> None:
    document = read(chart)
    assert document["postgres"] == document["rabbitmq"] == {"enabled": False}
    api = document["api"]
    assert api["quickstartJob"] == {"enabled": False}
    assert api["migrationJob"]["activeDeadlineSeconds"] > 900
    assert api["postgresImage"]["tag"] != "latest"


@BOTH
def test_identity(chart: str) -> None:
    shared = read(chart)["sharedConfig"]
    assert shared["serverUrl"] == "https://hatchet.example.com:8443"
    assert shared["serverAuthCookieDomain"] == "hatchet.example.com", "a domain with a port is dropped by browsers"
    assert (shared["serverAuthCookieInsecure"], shared["grpcBroadcastAddress"]) == ("f", "engine.example.com:443")
    assert shared["env"]["DEFAULT_TENANT_ID"] == TENANT_ID
    assert all(isinstance(value, str) for value in shared["env"].values()), "the chart encodes texts alone"


@BOTH
def test_the_tag_reaches_every_part(chart: str) -> None:
    """Helm hands a parent's values on only below the part's own name."""
    document = read(chart)
    for part in (*parts(document).values(), document["frontend"]):
        assert part["sharedConfig"] == {"image": {"tag": "v0.107.2"}}


@BOTH
def test_every_pod_and_job_gets_the_keys_last(chart: str) -> None:
    ours = {"secretRef": {"name": KEYS_OBJECT}}
    for part in parts(read(chart)).values():
        assert part["deploymentEnvFrom"] == [ours], "an empty list would not be YAML any more in the chart"
        assert part["envFrom"] == [{"secretRef": {"name": "hatchet-shared-config"}}, ours]


def test_each_deployment_has_its_services() -> None:
    ha, stack = parts(read("hatchet-ha")), parts(read("hatchet-stack"))
    assert {name: part["env"]["SERVER_SERVICES"] for name, part in ha.items() if name != "api"} == {
        "grpc": "grpc-api", "controllers": "controllers", "scheduler": "scheduler",
    }  # fmt: skip
    assert stack["engine"]["env"] == {"SERVER_SERVICES": "all"}
    assert stack["engine"]["fullnameOverride"] == "hatchet-engine"
    inside = "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS"
    assert read("hatchet-ha")["sharedConfig"]["env"][inside] == "hatchet-grpc:7070"
    assert read("hatchet-stack")["sharedConfig"]["env"][inside] == "hatchet-engine:7070"


@BOTH
def test_no_secret_is_in_the_values(chart: str) -> None:
    text = values(export(chart))
    assert not [
        name for name, kept in SECRETS.items() if kept in text or re.search(rf"^\s*{name}:", text, re.MULTILINE)
    ]
    assert yaml.safe_load(text)["sharedConfig"]["defaultAdminPassword"] == ""


@given(
    st.dictionaries(
        st.from_regex(r"SERVER_[A-Z]{1,20}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
    )
)
def test_the_secret_holds_any_text(given_ones: dict[str, str]) -> None:
    document = yaml.safe_load(secret(export(secrets=given_ones)))
    assert (document["kind"], document["metadata"]["name"]) == ("Secret", KEYS_OBJECT)
    assert (document["stringData"] or {}) == given_ones


@BOTH
def test_what_must_be_sized_is_said_with_numbers(chart: str) -> None:
    made = export(chart)
    pods = sum(part["replicaCount"] for part in parts(read(chart)).values())
    assert made.pods == pods
    assert made.connections == pods * 30 + 50
    assert f"{pods} x (20 + 10) + 50 = {made.connections}" in values(made)
    assert all(part["resources"]["limits"] for part in parts(read(chart)).values())


def test_what_names_this_machine_is_said() -> None:
    assert export().to_change == ()
    local = export(
        server_url="http://localhost:8888", grpc_address="localhost:17077", database_host="127.0.0.1", rabbitmq_host=None,
        moved=False,
    )  # fmt: skip
    said = " ".join(local.to_change)
    for word in ("serverUrl", "grpcBroadcastAddress", "DATABASE_URL", "rabbitmq_url", "--server-url", "--grpc-address"):
        assert word in said
        assert word in values(local)
    assert yaml.safe_load(values(local))["sharedConfig"]["env"]["SERVER_MSGQUEUE_KIND"] == "postgres"
    # One engine does with PostgreSQL as its queue.
    assert not [c for c in dataclasses.replace(local, chart="hatchet-stack").to_change if "rabbitmq" in c]


def test_tokens() -> None:
    assert read(moved=True)["api"]["workerTokenJob"] == {"enabled": True}
    assert "refused here" in values(export(moved=True))
    assert read(moved=False)["api"]["workerTokenJob"] == {"enabled": False}
    assert "stay good" in values(export(moved=False))


@pytest.mark.parametrize(
    "wish",
    [
        HelmWish(chart="hatchet"), HelmWish(server_url="hatchet.example.com"), HelmWish(server_url="https://"),
        HelmWish(server_url="https://h/path"), HelmWish(server_url="https://u:p@h"), HelmWish(grpc_address="engine"),
        HelmWish(grpc_address="https://engine:443"), HelmWish(grpc_address="engine:99999"),
        HelmWish(server_url="https://h:99999"), HelmWish(server_url="https://h:0"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_is_refused(wish: HelmWish) -> None:
    with pytest.raises(UsageError):
        wish.check()
