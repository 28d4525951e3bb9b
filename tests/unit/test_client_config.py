"""The configuration: every field is checked, each value has its origin, and the nearest origin wins."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up import token_claims
from owlclaw_up.client import BadConfig, HatchetConfig
from owlclaw_up.model import Secret

TENANT = "707d0855-80ab-4e1f-a156-f1c4546cbf52"


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def make_token(signature: str = "c2lnbmF0dXJl", **claims: object) -> str:
    given = {
        "sub": TENANT,
        "exp": 1900000000,
        "server_url": "http://localhost:8888",
        "grpc_broadcast_address": "localhost:17077",
    }
    return f"{part({'alg': 'ES256'})}.{part({**given, **claims})}.{signature}"


TOKEN = make_token()
MOCK = token_claims.placeholder(TENANT, "http://localhost:1", "localhost:2")


def test_a_token_is_enough() -> None:
    config = HatchetConfig(TOKEN)
    assert (config.host_port, config.server_url, config.tenant_id) == (
        "localhost:17077",
        "http://localhost:8888",
        TENANT,
    )
    assert (config.tls_strategy, config.mock, config.connect_timeout, config.namespace) == ("tls", False, 15.0, "")
    assert config.origins["host_port"] == "the token"
    assert config == HatchetConfig(Secret(f" {TOKEN}\n"))
    assert config.is_loopback


def test_it_never_shows_the_token() -> None:
    config = HatchetConfig(TOKEN)
    assert TOKEN not in f"{config!r} {config} {vars(config)}"
    for text in (TOKEN[:-20] + "é", f"Bearer {TOKEN}", TOKEN.replace(".", ",")):
        with pytest.raises(BadConfig) as caught:
            HatchetConfig(text, host_port="x")
        assert not any(piece in f"{caught.value} {caught.value.hint}" for piece in TOKEN.split(".")[:2])


def test_claims_without_addresses_leave_the_defaults() -> None:
    config = HatchetConfig(make_token(grpc_broadcast_address="", server_url=""))
    assert (config.host_port, config.server_url) == ("localhost:17077", "http://localhost:8888")


def test_mock_comes_from_the_placeholder_or_is_said() -> None:
    assert HatchetConfig(MOCK).mock is True
    assert HatchetConfig(MOCK, mock=False).mock is False
    assert HatchetConfig(TOKEN, mock=True).mock is True
    assert HatchetConfig("", mock=True).mock is True
    # Without an engine its address is nobody's.
    assert HatchetConfig(MOCK, tls_strategy="mtls").mock is True


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("token", "", "it is empty"),
        ("token", None, "a text is wanted, not NoneType"),
        ("token", "abc", "a token has three parts with dots between them, this has 1"),
        ("token", "a.b.c", "it is no token of Hatchet's"),
        ("token", f"Bearer {TOKEN}", "without 'Bearer'"),
        ("host_port", "localhost", "host:port is wanted"),
        ("host_port", "http://localhost:7077", "not a URL"),
        ("host_port", ":7077", "host:port is wanted"),
        ("host_port", "::1:7077", "an IPv6 address in brackets"),
        ("host_port", "local host:7077", "host:port is wanted"),
        ("host_port", "localhost:0", "port '0' is not in 1 to 65535"),
        ("host_port", "localhost:70000", "port '70000' is not in 1 to 65535"),
        ("host_port", "localhost:x", "port 'x' is not in 1 to 65535"),
        ("host_port", 17077, "a text is wanted"),
        ("server_url", "localhost:8888", "http://host:port is wanted"),
        ("server_url", "ftp://localhost", "http://host:port is wanted"),
        ("server_url", "http://", "http://host:port is wanted"),
        ("server_url", "http://localhost:70000", "its port is not in 1 to 65535"),
        ("server_url", "http://localhost:0", "http://host:port is wanted"),
        ("server_url", "http://a b", "http://host:port is wanted"),
        ("server_url", "http://user:secret@localhost", "the token is the login"),
        ("server_url", "http://localhost/?x=1", "a path at most"),
        ("server_url", "http://localhost:17077", "that is the gRPC port"),
        ("tls_strategy", "", "none, tls or mtls is wanted"),
        ("tls_strategy", "TLS", "none, tls or mtls is wanted"),
        ("tls_strategy", "mtls", "mtls wants all three files"),
        ("tls_root_ca_file", "/no/such/file", "there is no such file"),
        ("tenant_id", "default", "a UUID is wanted"),
        ("namespace", "my space", "only letters"),
        ("namespace", "x" * 101, "at most 100"),
        ("connect_timeout", 0, "above 0"),
        ("connect_timeout", float("nan"), "above 0"),
        ("connect_timeout", "15", "seconds are wanted"),
        ("connect_timeout", True, "seconds are wanted"),
        ("mock", "yes", "True or False is wanted"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field: str, value: Any, why: str) -> None:
    with pytest.raises(BadConfig) as caught:
        HatchetConfig(**{"token": TOKEN, field: value})
    assert why in caught.value.message
    assert caught.value.hint
    assert "secret" not in caught.value.message
    named = "tls_root_ca_file" if value == "mtls" else field
    assert caught.value.field == named
    assert (caught.value.code, caught.value.exit_code) == ("bad-config", 2)


@pytest.mark.parametrize("address", ["[::1]:7077", "127.0.0.1:1", "engine.example.com:443", "host_name:65535"])
def test_addresses_that_are_taken(address: str) -> None:
    assert HatchetConfig(TOKEN, host_port=address).host_port == address


def test_each_field_comes_from_the_nearest_origin(tmp_path: Path) -> None:
    file = tmp_path / "my.env"
    file.write_text(
        f"# mine\nHATCHET_CLIENT_TOKEN={TOKEN}\nHATCHET_CLIENT_HOST_PORT=a:1\nHATCHET_CLIENT_NAMESPACE='n'\n"
    )
    environ = {"HATCHET_GRPC_HOST_PORT": "b:2", "HATCHET_CLIENT_NAMESPACE": "m", "HATCHET_CLIENT_SERVER_URL": " "}
    config = HatchetConfig.load(file, environ, namespace="given", connect_timeout=3.0, tenant_id=None)
    assert (config.host_port, config.namespace, config.connect_timeout) == ("b:2", "given", 3.0)
    assert config.origins == {
        "token": f"{file}:2, HATCHET_CLIENT_TOKEN",
        "host_port": "environment variable HATCHET_GRPC_HOST_PORT",
        "namespace": "argument",
        "connect_timeout": "argument",
        "server_url": "the token",
        "tenant_id": "the token",
    }


def test_the_client_s_name_of_a_variable_wins_over_the_application_s(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        f"HATCHET_API_TOKEN=x\nHATCHET_CLIENT_TOKEN={TOKEN}\n"
        "HATCHET_SERVER_URL=http://localhost:17077\nHATCHET_CLIENT_SERVER_URL=http://localhost:8888\n"
        "HATCHET_GRPC_TLS_STRATEGY=tls\nHATCHET_CLIENT_TLS_STRATEGY=none\n"
    )
    config = HatchetConfig.load(file, {})
    assert (config.server_url, config.tls_strategy) == ("http://localhost:8888", "none")
    assert HatchetConfig.load(None, {"HATCHET_API_TOKEN": TOKEN}).secret == Secret(TOKEN)


def test_a_server_url_that_is_the_grpc_port_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"HATCHET_API_TOKEN={TOKEN}\nHATCHET_SERVER_URL=http://localhost:17077\n")
    with pytest.raises(BadConfig, match="that is the gRPC port") as caught:
        HatchetConfig.load(file, {})
    assert f"(from {file}:2, HATCHET_SERVER_URL)" in caught.value.message
    assert "HATCHET_CLIENT_SERVER_URL" in caught.value.hint


def test_both_may_be_behind_one_port_of_a_proxy_that_speaks_tls() -> None:
    both = HatchetConfig(
        TOKEN, host_port="h.example.com:443", server_url="https://h.example.com:443", tls_strategy="tls"
    )
    assert both.server_url == "https://h.example.com:443"
    with pytest.raises(BadConfig, match="that is the gRPC port"):
        dataclasses.replace(both, tls_strategy="none")


def test_the_file_is_found_in_a_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"HATCHET_CLIENT_TOKEN={TOKEN}\n")
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert HatchetConfig.load(environ={}).origins["token"] == f"{tmp_path / '.env'}:1, HATCHET_CLIENT_TOKEN"
    monkeypatch.chdir(tmp_path)
    assert HatchetConfig.load(environ={}).origins["token"] == ".env:1, HATCHET_CLIENT_TOKEN"
    # hatchet-sdk would let this one win.
    (tmp_path / ".env.local").write_text("HATCHET_CLIENT_TOKEN=stale\n")
    assert HatchetConfig.load(environ={}).secret == Secret(TOKEN)


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="neither an argument, nor the environment") as caught:
        HatchetConfig.load(None, {})
    assert "owlclaw-up" in caught.value.hint
    with pytest.raises(BadConfig, match="No such file"):
        HatchetConfig.load(tmp_path / "none.env", {})
    (tmp_path / "bad.env").write_bytes(b"HATCHET_CLIENT_TOKEN=\xff\n")
    with pytest.raises(BadConfig, match="env_file"):
        HatchetConfig.load(tmp_path / "bad.env", {})
    with pytest.raises(BadConfig, match="there is no such field") as caught:
        HatchetConfig.load(None, {}, tokne="x")
    assert "token" in caught.value.hint
