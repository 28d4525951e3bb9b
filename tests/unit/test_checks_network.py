"""Which variables come between a program and the engine, and what to say about it; names; and what hatchet-sdk is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from owlclaw_up.checks import BY_ID
from owlclaw_up.checks.base import Evidence, Seen
from owlclaw_up.checks.network import grpc_proxy, http_proxy, proxy_finding
from owlclaw_up.facts import EnvPlace, EnvPlaces
from owlclaw_up.facts.network import host_in
from owlclaw_up.host.names import Resolved
from owlclaw_up.model import Found, Mode, Secret
from owlclaw_up.settings import Settings
from tests.unit.fakes import NOW, make_facts, make_ledger, make_token

URL = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("proxies", "grpc", "http"),
    [
        ({}, "", ""),
        ({"http_proxy": URL}, "http_proxy", "http_proxy"),
        ({"HTTP_PROXY": URL}, "", "HTTP_PROXY"),
        ({"https_proxy": URL}, "https_proxy", ""),
        ({"ALL_PROXY": URL}, "", "ALL_PROXY"),
        ({"http_proxy": "", "HTTP_PROXY": URL}, "", ""),
        ({"grpc_proxy": "", "http_proxy": URL}, "", "http_proxy"),
        ({"http_proxy": "socks5://p:1"}, "", "http_proxy"),
        ({"http_proxy": URL, "no_proxy": "localhost"}, "", ""),
        ({"http_proxy": URL, "no_proxy": "*"}, "http_proxy", ""),
        ({"http_proxy": URL, "no_proxy": "127.0.0.1"}, "http_proxy", "http_proxy"),
        ({"http_proxy": URL, "NO_PROXY": "localhost"}, "http_proxy", ""),
        ({"http_proxy": URL, "no_grpc_proxy": "localhost"}, "", "http_proxy"),
        ({"http_proxy": URL, "no_grpc_proxy": "example.com", "no_proxy": "localhost"}, "http_proxy", ""),
    ],
)
def test_which_variable_catches_what(proxies: dict[str, str], grpc: str, http: str) -> None:
    assert (grpc_proxy(proxies, "localhost"), http_proxy(proxies, "localhost")) == (grpc, http)


@pytest.mark.parametrize(
    ("exceptions", "host", "excepted"),
    [
        ("example.com", "engine.example.com", True),
        ("ample.com", "engine.example.com", False),
        (" .EXAMPLE.com ,x", "example.com", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "localhost", False),
        ("", "localhost", False),
    ],
)
def test_what_an_exception_covers(exceptions: str, host: str, excepted: bool) -> None:
    assert (grpc_proxy({"http_proxy": URL, "no_proxy": exceptions}, host) == "") == excepted


@pytest.mark.parametrize(
    ("proxies", "title", "detail", "command"),
    [
        ({"http_proxy": URL}, "http_proxy will catch your worker's gRPC and HTTP", "", "export no_proxy=localhost,127.0.0.1"),
        ({"https_proxy": URL, "HTTP_PROXY": URL}, "https_proxy and HTTP_PROXY will", "", "export no_proxy=localhost,127.0.0.1"),
        ({"http_proxy": URL, "no_proxy": "a.com"}, "", "", 'export no_proxy="$no_proxy,localhost,127.0.0.1"'),
        (
            {"http_proxy": URL, "NO_PROXY": "localhost"}, "", "gRPC does not read NO_PROXY",
            'export no_proxy="$NO_PROXY,localhost,127.0.0.1"',
        ),
        (
            {"http_proxy": URL, "no_proxy": "*"}, "gRPC to localhost", "gRPC knows no *",
            "export no_grpc_proxy=localhost,127.0.0.1",
        ),
        (
            {"http_proxy": URL, "no_grpc_proxy": "a.com", "no_proxy": "localhost"}, "gRPC to localhost",
            "no_grpc_proxy takes the place", 'export no_grpc_proxy="$no_grpc_proxy,localhost,127.0.0.1"',
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_a_proxy(proxies: dict[str, str], title: str, detail: str, command: str) -> None:
    found = proxy_finding(proxies)
    assert found is not None and (found.level, found.command) == ("warn", command)
    assert title in found.title and detail in found.detail
    assert URL not in repr(found), "it may hold a password"


@pytest.mark.parametrize(
    ("key", "value", "host"),
    [
        ("HATCHET_CLIENT_HOST_PORT", " engine:7070 ", "engine"),
        ("HATCHET_CLIENT_SERVER_URL", "http://engine.example.com/x", "engine.example.com"),
        ("DB_URL", "postgresql+asyncpg://me:p%40ss@db:5432/owlclaw", "db"),
        ("DATABASE_URL", "postgresql://me@db/owlclaw", ""),
        ("HATCHET_CLIENT_TOKEN", make_token(grpc_broadcast_address="elsewhere:7070"), "elsewhere"),
        ("HATCHET_CLIENT_TOKEN", "nonsense", ""),
        ("HATCHET_CLIENT_TENANT_ID", "a:b", ""),
        ("HATCHET_CLIENT_SERVER_URL", "http://[::1", ""),
    ],
)
def test_the_host_of_a_value(key: str, value: str, host: str) -> None:
    assert host_in(key, value, {"DATABASE_URL": "DB_URL"}) == host


def evidence(path: Path, **facts: object) -> Evidence:
    ledger = make_ledger(path)
    ledger.state.ports["grpc"] = 17077
    return Evidence(
        make_facts(path, **facts), Settings(), ledger, Mode.NATIVE, True, None, None, (), None, NOW
    )  # fmt: skip


def look(check: str, seen: Evidence) -> list[Seen]:
    return list(BY_ID[check].look(seen))


def place(key: str, value: str, where: str = ".env", line: int | None = 1) -> EnvPlace:
    return EnvPlace(key, where, line, Secret(value))


@pytest.mark.parametrize(
    ("addresses", "error", "level"),
    [
        (("::1", "127.0.0.1"), "", "ok"),
        (("127.0.0.1",), "", "ok"),
        (("::1",), "", "fail"),
        (("127.0.0.1", "10.9.8.7"), "", "fail"),
        ((), "no answer within 1.5 s", "fail"),
    ],
)
def test_what_localhost_may_be(tmp_path: Path, addresses: tuple[str, ...], error: str, level: str) -> None:
    names = Found({"localhost": Resolved(addresses, error)})
    assert [s.level for s in look("network.localhost", evidence(tmp_path, names=names))] == [level]


def test_a_name_inside_of_containers(tmp_path: Path) -> None:
    """Docker Desktop makes this name resolve on the machine itself, so there it is no fault."""
    places = EnvPlaces(written=(place("HATCHET_CLIENT_HOST_PORT", "host.docker.internal:17077"),))
    lost = {"localhost": Resolved(("127.0.0.1",)), "host.docker.internal": Resolved(error="Name or service not known")}
    (seen,) = look("network.names", evidence(tmp_path, shadows=Found(places), names=Found(lost)))
    assert seen.title == "host.docker.internal in HATCHET_CLIENT_HOST_PORT (.env, line 1) does not resolve here"
    assert seen.detail == "Name or service not known; it is a name inside of containers"
    there = {**lost, "host.docker.internal": Resolved(("192.168.65.2",))}
    (seen,) = look("network.names", evidence(tmp_path, shadows=Found(places), names=Found(there)))
    assert (seen.level, seen.title) == ("ok", "every other name resolves: host.docker.internal")


def test_the_strategy_that_a_program_gets(tmp_path: Path) -> None:
    key = "HATCHET_CLIENT_TLS_STRATEGY"
    written = (place(key, "none"), place("HATCHET_CLIENT_HOST_PORT", "localhost:17077"))

    def seen(*over: EnvPlace) -> Seen:
        return look("sdk.tls", evidence(tmp_path, shadows=Found(EnvPlaces(written, over))))[0]

    assert seen().level == "ok"
    shell = seen(place(key, "tls", "the shell", None), place(key, "none", ".env.local", 3))
    assert (shell.level, shell.command, shell.fix) == ("fail", f"unset {key}", None)
    file = seen(place(key.lower(), "mtls", ".env.local", 3))
    assert (file.command, file.hint) == ("", "remove line 3 of .env.local")
