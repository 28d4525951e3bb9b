"""The compose files as text: what a reader of Docker's own documentation would check by eye."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from owlclaw_up.settings import DEFAULT_HATCHET_IMAGE, DEFAULT_POSTGRES_IMAGE, ENV_PREFIX, KEYS
from owlclaw_up.spec import ADMIN_EMAIL, TENANT_ID

DEPLOY = Path(__file__).parents[1] / "deploy"
LITE, HATCHET_ONLY = DEPLOY / "docker-compose.lite.yml", DEPLOY / "docker-compose.lite.hatchet-only.yml"
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:-)?")


def lines(file: Path) -> list[str]:
    """Without comments and blank lines."""
    text = file.read_text(encoding="utf-8").splitlines()
    return [line for line in text if line.strip() and not line.strip().startswith("#")]


def resolved(file: Path) -> str:
    """With every default in its place, innermost first, as with an empty environment."""
    text = "\n".join(lines(file))
    while "${" in text:
        text, count = re.subn(r"\$\{\w+:-([^${}]*)\}", r"\1", text)
        assert count, f"a variable without a default: {text[text.index('${') :][:60]}"
    return text


def block(text: str, key: str, indent: int) -> list[str]:
    """The lines below a key."""
    inside: list[str] = []
    found = False
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if found and depth <= indent:
            break
        if found:
            inside.append(line.strip())
        found = found or line == " " * indent + f"{key}:"
    assert inside, f"no {key}"
    return inside


def service(file: Path, name: str) -> str:
    text = resolved(file)
    inner = re.search(rf"^  {name}:\n((?:    .*\n|$)+)", text + "\n", flags=re.MULTILINE)
    assert inner is not None
    return inner[1]


@pytest.mark.parametrize("file", [LITE, HATCHET_ONLY], ids=lambda f: f.name)
class TestBoth:
    def test_every_variable_has_a_default(self, file: Path) -> None:
        text = "\n".join(lines(file))
        assert all(default for _, default in _VARIABLE.findall(text))
        known = {ENV_PREFIX + key.upper() for key in KEYS}
        ours = {name for name, _ in _VARIABLE.findall(text) if name.startswith(ENV_PREFIX)}
        # owlclaw-up refuses variables of its own prefix that it does not know.
        assert ours
        assert ours <= known

    def test_ports_are_published_on_loopback_only(self, file: Path) -> None:
        published = re.findall(r'- "(\S+:\d+)"', resolved(file))
        assert {"127.0.0.1:8888:8888", "127.0.0.1:17077:7077"} <= set(published)
        assert all(port.startswith("127.0.0.1:") for port in published)

    def test_the_engine_gives_addresses_that_the_host_resolves(self, file: Path) -> None:
        environment = dict(
            line.split(": ", 1) for line in block(service(file, "hatchet-lite"), "environment", 4) if ": " in line
        )
        environment = {key: value.strip('"') for key, value in environment.items()}
        assert environment["SERVER_URL"] == "http://localhost:8888"
        assert environment["SERVER_GRPC_BROADCAST_ADDRESS"] == "localhost:17077"
        assert environment["SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS"] == "127.0.0.1:7077"
        assert environment["SERVER_GRPC_PORT"] == "7077"
        assert environment["SERVER_GRPC_INSECURE"] == "t"
        assert environment["SERVER_MSGQUEUE_KIND"] == "postgres"
        assert environment["PGTZ"] == "UTC"
        assert int(environment["DATABASE_MAX_CONNS"]) <= 50
        assert environment["ADMIN_EMAIL"] == ADMIN_EMAIL
        assert environment["ADMIN_PASSWORD"] == "Admin123!!"
        assert environment["DEFAULT_TENANT_ID"] == TENANT_ID
        # The server knows tls and mtls only.
        assert "SERVER_TLS_STRATEGY" not in environment

    def test_the_engine_is_asked_what_matters(self, file: Path) -> None:
        text = service(file, "hatchet-lite")
        check = " ".join(block(text, "healthcheck", 4))
        assert re.search(r"127.0.0.1:(8733|\$\$SERVER_HEALTHCHECK_PORT)/ready", check)
        assert re.search(r"127.0.0.1:(8888|\$\$LITE_RUNTIME_PORT)/api/ready", check)
        assert "interval: 2s" in check
        assert "stop_grace_period: 30s" in text

    def test_images_are_pinned_and_names_are_left_to_compose(self, file: Path) -> None:
        text = resolved(file)
        assert f"image: {DEFAULT_HATCHET_IMAGE}" in text
        assert "latest" not in text
        assert "container_name" not in text
        assert not re.search(r"^version:", text, flags=re.MULTILINE)


def test_each_has_a_project_name_of_its_own() -> None:
    assert "name: owlclaw-lite" in lines(LITE)
    assert "name: owlclaw-lite-hatchet-only" in lines(HATCHET_ONLY)


def test_the_database_keeps_its_data_and_runs_the_script() -> None:
    text = service(LITE, "owlclaw-db")
    assert f"image: {DEFAULT_POSTGRES_IMAGE}" in text
    assert "max_connections=200" in text
    assert "- owlclaw-db-data:/var/lib/postgresql/data" in text
    assert "- ./init-db.sql:/docker-entrypoint-initdb.d/init-db.sql:ro" in text
    assert (DEPLOY / "init-db.sql").is_file()
    check = " ".join(block(text, "healthcheck", 4))
    assert "psql -h 127.0.0.1 -U hatchet -d hatchet" in check
    assert '- "127.0.0.1:5432:5432"' in text
    assert "condition: service_healthy" in service(LITE, "hatchet-lite")


def test_hatchet_only_reaches_the_host_on_linux_too() -> None:
    text = service(HATCHET_ONLY, "hatchet-lite")
    assert '- "host.docker.internal:host-gateway"' in text
    assert "postgresql://hatchet:hatchet@host.docker.internal:5432/hatchet" in text


def test_both_files_configure_the_same_engine() -> None:
    # In the container's own network the image's ports are those that the other file names.
    inner = ("DATABASE_URL", "LITE_RUNTIME_PORT", "LITE_FRONTEND_PORT", "SERVER_PORT", "SERVER_HEALTHCHECK_PORT")
    one, other = (
        sorted(
            line.replace('"', "")
            for line in block(service(file, "hatchet-lite"), "environment", 4)
            if not line.startswith((*inner, "#"))
        )
        for file in (LITE, HATCHET_ONLY)
    )
    assert one == other
