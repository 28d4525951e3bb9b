"""Where the engine is and how to speak to it: every field checked, each with its origin. Reads a dotenv file, writes nothing.

hatchet-sdk reads dotenv files of the working directory by itself; the client gives it every value, so that only what
stands here decides.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from owlclaw_up import dotenv_text, token_claims
from owlclaw_up.client.errors import BadConfig
from owlclaw_up.model import Secret

DEFAULT_HOST_PORT = "localhost:17077"
DEFAULT_SERVER_URL = "http://localhost:8888"
STRATEGIES = ("none", "tls", "mtls")
# Field -> the variables that set it, the first that is there wins within one source.
VARIABLES = {
    "token": ("HATCHET_CLIENT_TOKEN", "HATCHET_API_TOKEN"),
    "host_port": ("HATCHET_CLIENT_HOST_PORT", "HATCHET_GRPC_HOST_PORT"),
    "server_url": ("HATCHET_CLIENT_SERVER_URL", "HATCHET_SERVER_URL"),
    "tls_strategy": ("HATCHET_CLIENT_TLS_STRATEGY", "HATCHET_GRPC_TLS_STRATEGY"),
    "tenant_id": ("HATCHET_CLIENT_TENANT_ID",),
    "namespace": ("HATCHET_CLIENT_NAMESPACE",),
    "tls_root_ca_file": ("HATCHET_CLIENT_TLS_ROOT_CA_FILE",),
    "tls_cert_file": ("HATCHET_CLIENT_TLS_CERT_FILE",),
    "tls_key_file": ("HATCHET_CLIENT_TLS_KEY_FILE",),
    "tls_server_name": ("HATCHET_CLIENT_TLS_SERVER_NAME",),
}
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_HOSTNAME = re.compile(r"[0-9a-f:.]+|[a-z0-9._-]+")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{0,100}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True)
class HatchetConfig:
    """How to reach an engine, or that there is none and tasks run in this process (`mock`).

    Attributes:
        token: the API token; owlclaw-up's placeholder means mock.
        host_port: gRPC; from the token where it is left out.
        server_url: REST and dashboard; from the token where it is left out.
        tls_strategy: none, tls or mtls.
        tenant_id: from the token where it is left out.
        connect_timeout: seconds for each call.
        mock: None takes it from the token.
        origins: field -> where its value came from.

    Raises:
        BadConfig: a field cannot be used; the token is never shown.
    """

    token: Secret | str
    host_port: str = ""
    server_url: str = ""
    tls_strategy: str = "tls"
    tenant_id: str = ""
    namespace: str = ""
    tls_root_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_server_name: str = ""
    connect_timeout: float = 15.0
    mock: bool | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(
        cls,
        env_file: Path | str | None = ".env",
        environ: Mapping[str, str] | None = None,
        **arguments: object,
    ) -> HatchetConfig:
        """The configuration of this place: for each field arguments, then the environment, then a dotenv file.

        Args:
            env_file: a name is looked for in the working directory and its parents; a path is that file; None is none.
            environ: the process's own where it is left out.
            arguments: fields; None is as good as none given.

        Raises:
            BadConfig: a field, or the dotenv file, cannot be used.
        """
        environ = os.environ if environ is None else environ
        known = {f.name for f in fields(cls)} - {"origins"}
        for name in arguments:
            if name not in known:
                raise BadConfig(name, "...", "there is no such field", hint=f"fields: {', '.join(sorted(known))}")
        file, lines = _dotenv(env_file)
        found: dict[str, object] = {}
        origins: dict[str, str] = {}
        for name, variables in VARIABLES.items():
            in_environment = next((v for v in variables if environ.get(v, "").strip()), None)
            in_file = next((v for v in variables if lines.get(v, ("", 0))[0].strip()), None)
            if in_environment:
                found[name] = environ[in_environment].strip()
                origins[name] = f"environment variable {in_environment}"
            elif in_file:
                value, line = lines[in_file]
                found[name], origins[name] = value.strip(), f"{file}:{line}, {in_file}"
        for name, given in arguments.items():
            if given is not None:
                found[name], origins[name] = given, "argument"
        if "token" not in found:
            raise BadConfig(
                "token", "''", f"neither an argument, nor the environment, nor {file or 'a dotenv file'} has one",
                hint="owlclaw-up, which writes it into .env as HATCHET_CLIENT_TOKEN",
            )  # fmt: skip
        return cls(**found, origins=origins)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        text = self._token()
        claims = token_claims.decode(text)
        derived = {
            "token": Secret(text),
            "mock": token_claims.is_placeholder(text) if self.mock is None else self.mock,
            "host_port": self.host_port or (claims.grpc_address if claims else "") or DEFAULT_HOST_PORT,
            "server_url": self.server_url or (claims.server_url if claims else "") or DEFAULT_SERVER_URL,
            "tenant_id": self.tenant_id or (claims.tenant if claims else ""),
        }
        origins = dict(self.origins)
        for name in ("host_port", "server_url", "tenant_id"):
            if not getattr(self, name):
                origins[name] = "the token" if claims else "default"
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "origins", origins)
        if not isinstance(self.mock, bool):
            raise self._bad("mock", repr(self.mock), "True or False is wanted")
        for name in VARIABLES:
            if name != "token" and not isinstance(getattr(self, name), str):
                raise self._bad(name, repr(getattr(self, name))[:60], "a text is wanted")
        if claims is None and not self.mock:
            raise self._bad("token", "***", _why_no_token(text))
        self._check_addresses()
        self._check_tls()
        if self.tenant_id and not _UUID.fullmatch(self.tenant_id):
            raise self._bad("tenant_id", repr(self.tenant_id), "a UUID is wanted", "leave it out: the token has it")
        if not _NAMESPACE.fullmatch(self.namespace):
            why = "only letters, digits, '.', '-' and '_' are taken, at most 100"
            raise self._bad("namespace", repr(self.namespace)[:60], why, "an empty one is none")
        seconds = self.connect_timeout
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 3600:
            why = "seconds are wanted, above 0 and at most 3600"
            raise self._bad(
                "connect_timeout", "nan" if _is_nan(seconds) else repr(seconds)[:60], why, "connect_timeout=15.0"
            )

    @property
    def secret(self) -> Secret:
        """The token, never shown."""
        assert isinstance(self.token, Secret)
        return self.token

    @property
    def host(self) -> str:
        """The host of `host_port`, without the brackets of an IPv6 address."""
        return self.host_port.rpartition(":")[0].strip("[]")

    @property
    def is_loopback(self) -> bool:
        return self.host.lower() in ("localhost", "::1") or self.host.startswith("127.")

    def _bad(self, name: str, shown: str, why: str, hint: str = "") -> BadConfig:
        return BadConfig(name, shown, why, origin=self.origins.get(name, ""), hint=hint)

    def _token(self) -> str:
        text = self.token.reveal() if isinstance(self.token, Secret) else self.token
        if not isinstance(text, str):
            raise self._bad("token", "***", f"a text is wanted, not {type(text).__name__}")
        text = text.strip()
        if not text and self.mock:
            return token_claims.placeholder(
                "00000000-0000-4000-8000-000000000000", DEFAULT_SERVER_URL, DEFAULT_HOST_PORT
            )
        if not text:
            raise self._bad(
                "token", "''", "it is empty", "owlclaw-up, which writes it into .env as HATCHET_CLIENT_TOKEN"
            )
        return text

    def _check_addresses(self) -> None:
        host, colon, port = self.host_port.rpartition(":")
        hint = f"host_port={DEFAULT_HOST_PORT!r}"
        if "://" in self.host_port:
            raise self._bad("host_port", repr(self.host_port), "host:port is wanted, not a URL", hint)
        if not colon or not _HOST.fullmatch(host):
            why = "host:port is wanted; an IPv6 address in brackets"
            raise self._bad("host_port", repr(self.host_port)[:80], why, hint)
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise self._bad("host_port", repr(self.host_port)[:80], f"port {port!r} is not in 1 to 65535", hint)
        hint = f"server_url={DEFAULT_SERVER_URL!r}"
        try:
            url = urlsplit(self.server_url)
            url_port = url.port
        except ValueError:
            raise self._bad(
                "server_url", repr(self.server_url)[:80], "it is no URL, or its port is not in 1 to 65535", hint
            ) from None
        if url.username or url.password:
            raise self._bad("server_url", "a URL with a login", "the token is the login", hint)
        hostname = url.hostname or ""
        if url.scheme not in ("http", "https") or not _HOSTNAME.fullmatch(hostname) or url_port == 0:
            raise self._bad("server_url", repr(self.server_url)[:80], "http://host:port is wanted", hint)
        if url.query or url.fragment:
            raise self._bad("server_url", repr(self.server_url)[:80], "it ends in a path at most", hint)
        # A proxy that speaks TLS may have both behind one port; an engine itself has not.
        both = url.scheme == "https" and self.tls_strategy != "none"
        if not self.mock and not both and (hostname, url_port) == (self.host.lower(), int(port)):
            raise self._bad(
                "server_url", repr(self.server_url),
                "that is the gRPC port, which answers no REST call; REST and dashboard have a port of their own",
                "HATCHET_CLIENT_SERVER_URL=http://localhost:8888 beside it, or correct HATCHET_SERVER_URL in .env",
            )  # fmt: skip

    def _check_tls(self) -> None:
        if self.tls_strategy not in STRATEGIES:
            why = "none, tls or mtls is wanted"
            raise self._bad("tls_strategy", repr(self.tls_strategy)[:60], why, "an engine of owlclaw-up wants: none")
        if self.mock:
            return
        files = {name: getattr(self, name) for name in ("tls_root_ca_file", "tls_cert_file", "tls_key_file")}
        for name, path in files.items():
            if self.tls_strategy == "mtls" and not path:
                raise self._bad(
                    name, "''", "mtls wants all three files", "tls_root_ca_file, tls_cert_file, tls_key_file"
                )
            if path and self.tls_strategy != "none" and not os.access(path, os.R_OK):
                raise self._bad(name, repr(path), "there is no such file, or it cannot be read", f"ls -l {path}")


def _why_no_token(text: str) -> str:
    if text.startswith(("Bearer ", "bearer ")):
        return "the token alone is wanted, without 'Bearer'"
    parts = len(text.split("."))
    if parts != 3:
        return f"a token has three parts with dots between them, this has {parts}"
    return "it is no token of Hatchet's: its middle part does not say tenant and expiry"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _dotenv(env_file: Path | str | None) -> tuple[str, dict[str, tuple[str, int]]]:
    """The name of the dotenv file as errors show it, and its assignments: value and line."""
    if env_file is None:
        return "", {}
    path = Path(env_file)
    if len(path.parts) == 1:
        here = Path.cwd()
        found = next((folder / path for folder in (here, *here.parents) if (folder / path).is_file()), None)
        if found is None:
            return "", {}
        shown = str(path) if found.parent == here else str(found)
    else:
        found, shown = path, str(path)
    try:
        assignments = dotenv_text.parse(found.read_bytes())
    except (OSError, dotenv_text.DotenvError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadConfig("env_file", repr(shown), f"it cannot be read: {why}", hint=f"ls -l {shown}") from None
    return shown, {item.key: (item.value, item.line) for item in assignments}
