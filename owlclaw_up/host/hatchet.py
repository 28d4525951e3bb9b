"""A running Hatchet engine: probes by the standard library, a login by httpx, gRPC by grpcio.

On loopback no proxy is ever asked. Elsewhere gRPC asks the one that the environment names, and REST none: as hatchet-sdk.

`hatchet_sdk` is not imported here: it costs more than a second, and one call of GetVersion needs none of it.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from owlclaw_up.errors import ApplyFailed
from owlclaw_up.grpc_words import hop_of
from owlclaw_up.host.base import GrpcLook, RestLook, Tls, on_this_machine
from owlclaw_up.model import Secret

if TYPE_CHECKING:
    import httpx

_GET_VERSION = "/Dispatcher/GetVersion"


class HatchetEngine:
    """`host.base.Hatchet`."""

    def get(self, port: int, path: str, timeout: float = 2.0) -> tuple[int, str, str] | None:
        """GET on 127.0.0.1.

        Args:
            timeout: seconds for each of connecting and reading.

        Returns:
            status, content type, and the first 4 KiB of the body; None when nobody answers.
        """
        return _page(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout), path)

    def page(self, url: str, timeout: float = 2.0, *, root_ca: str = "") -> tuple[int, str, str] | None:
        """GET a URL; what `get` gives.

        Args:
            timeout: seconds for each of connecting and reading.
            root_ca: file of the only root certificate that is trusted.
        """
        parts = urlsplit(url)
        try:
            connection = _connection(parts.scheme, parts.hostname or "", parts.port, timeout, root_ca)
        except OSError:
            return None
        return _page(connection, parts.path or "/")

    def grpc_version(
        self, address: str, token: Secret, timeout: float = 5.0, *, tls: Tls | None = None
    ) -> GrpcLook:  # fmt: skip
        """Ask for the version with a token: proves address, TLS or plain text, and that the engine takes the token.

        Args:
            address: host:port.
            timeout: seconds for the whole call.
            tls: speak TLS, as hatchet-sdk does where nothing tells it otherwise; None is plain text.
        """
        # A failed handshake is told in the answer; gRPC would tell it on stderr as well.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import grpc

        host, _, port = address.rpartition(":")
        # `localhost` may be ::1 first, and our engines listen on 127.0.0.1.
        target = f"127.0.0.1:{port}" if host == "localhost" else address
        options: list[tuple[str, Any]] = []
        if on_this_machine(host.strip("[]")):
            options.append(("grpc.enable_http_proxy", 0))
        if tls is not None:
            try:
                pems = [Path(file).read_bytes() if file else None for file in (tls.root_ca, tls.key, tls.certificate)]
            except OSError as error:
                return GrpcLook("unavailable", hop="TLS", detail=f"{error.filename}: {os.strerror(error.errno or 0)}")
            options.append(("grpc.ssl_target_name_override", tls.server_name or host.strip("[]")))
            made = grpc.secure_channel(target, grpc.ssl_channel_credentials(*pems), options=options)
        else:
            made = grpc.insecure_channel(target, options=options)
        with made as channel:
            call = channel.unary_unary(
                _GET_VERSION, request_serializer=lambda body: body, response_deserializer=lambda body: body
            )
            try:
                answer = call(b"", timeout=timeout, metadata=(("authorization", f"Bearer {token.reveal()}"),))
            except grpc.RpcError as error:
                code, words = error.code(), error.details() or ""
                if code == grpc.StatusCode.UNAUTHENTICATED:
                    return GrpcLook("refused-token", hop="token", detail=words)
                return GrpcLook("unavailable", hop=hop_of(words), detail=f"{code.name}: {words}")
        return GrpcLook("ok", version=_version_field(answer))

    def rest_tenant(
        self, url: str, tenant: str, token: Secret, timeout: float = 3.0, *, root_ca: str = ""
    ) -> RestLook:  # fmt: skip
        """Ask over REST for the token's tenant: proves address and token; the answer tells the engine's time as well.

        Args:
            url: as in `HATCHET_CLIENT_SERVER_URL`.
            timeout: seconds for each of connecting and reading.
            root_ca: file of the only root certificate that is trusted.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            return RestLook("unavailable", hop="REST", detail=f"{url} is no URL: {error}")
        if parts.scheme not in ("http", "https") or not host:
            return RestLook("unavailable", hop="REST", detail=f"{url} is no URL of HTTP")
        # A certificate is for the name, not for the address.
        host = "127.0.0.1" if host == "localhost" and parts.scheme == "http" else host
        try:
            connection = _connection(parts.scheme, host, port, timeout, root_ca)
        except OSError as error:
            return RestLook("unavailable", hop="TLS", detail=f"{root_ca}: {error}")
        path = f"{parts.path.rstrip('/')}/api/v1/tenants/{quote(tenant, safe='')}"
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token.reveal()}"})
            answer = connection.getresponse()
            body = _text(answer.read(600).decode("utf-8", "replace"))
        except (OSError, ValueError, http.client.HTTPException) as error:
            hop = {socket.gaierror: "name resolution", ssl.SSLError: "TLS"}
            return RestLook(
                "unavailable",
                hop=next((h for kind_of, h in hop.items() if isinstance(error, kind_of)), "REST"),
                detail=f"{type(error).__name__}: {error}",
            )
        finally:
            connection.close()
        date = email.utils.parsedate_tz(answer.headers.get("Date", ""))
        clock = float(email.utils.mktime_tz(date)) if date else None
        if answer.status == 200 and "html" not in answer.headers.get("Content-Type", ""):
            return RestLook("ok", 200, clock=clock)
        if answer.status in (401, 403):
            return RestLook("refused-token", answer.status, "token", body, clock)
        state = "unavailable" if answer.status == 200 else "failed"
        return RestLook(state, answer.status, "REST", body if state == "failed" else "a page, no REST API", clock)

    def lets_in(self, port: int, email: str, password: Secret, timeout: float = 3.0) -> bool | None:
        """Whether a login of the dashboard is taken; None where nobody says so. A login on 127.0.0.1.

        Args:
            timeout: seconds for each of connecting and reading.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        body = json.dumps({"email": email, "password": password.reveal()})
        try:
            connection.request("POST", "/api/v1/users/login", body, {"Content-Type": "application/json"})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        # 400: these are no good; 429: too many were tried.
        return {200: True, 400: False}.get(status)

    def token_by_login(self, port: int, email: str, password: Secret, tenant: str, name: str, hours: int) -> Secret:
        """A new API token over REST, as the dashboard's admin: where Hatchet's admin tool cannot be run.

        Args:
            port: dashboard and REST, on 127.0.0.1.
            hours: how long the token lives.

        Raises:
            ApplyFailed: the login, or the request for a token, is refused.
        """
        import httpx

        try:
            # trust_env: no proxy of the environment is asked for loopback.
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=10.0) as client:
                answer = client.post("/users/login", json={"email": email, "password": password.reveal()})
                _good(answer, f"the login of {email}")
                # Its `Domain=localhost` keeps every cookie jar from sending it back to 127.0.0.1.
                cookie = next((c for c in answer.headers.get_list("set-cookie") if c.startswith("hatchet=")), "")
                answer = client.post(
                    f"/tenants/{tenant}/api-tokens", json={"name": name, "expiresIn": f"{hours}h"},
                    headers={"Cookie": cookie.split(";")[0]},
                )  # fmt: skip
                _good(answer, "the request for a token")
                return Secret(str(answer.json()["token"]))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ApplyFailed(
                "token-login",
                f"no token could be had over REST on port {port} ({type(error).__name__})",
                hint="owlclaw-up logs hatchet",
            ) from None


def _page(connection: http.client.HTTPConnection, path: str) -> tuple[int, str, str] | None:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(4096).decode("utf-8", "replace")
        return response.status, response.headers.get("Content-Type", ""), body
    except (TimeoutError, OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _text(answer: str) -> str:
    """The words of a page of HTML, as proxies send them; anything else as it is."""
    answer = answer.strip()
    return " ".join(re.sub(r"<[^>]*>", " ", answer).split()) if answer.startswith("<") else answer[:300]


def _connection(scheme: str, host: str, port: int | None, timeout: float, root_ca: str) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = ssl.create_default_context(cafile=root_ca or None)
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def _good(answer: httpx.Response, what: str) -> None:
    if answer.status_code == 200:
        return
    raise ApplyFailed(
        "token-login",
        f"the engine refused {what} with HTTP {answer.status_code}",
        hint="a password changed in the dashboard: OWLCLAW_UP_ADMIN_PASSWORD=... owlclaw-up",
        detail=answer.text[:300],
    )


def _version_field(message: bytes) -> str:
    """The string of field 1 of `GetVersionResponse`: one tag byte, a length, the text."""
    if len(message) < 2 or message[0] != 0x0A:
        return ""
    return message[2 : 2 + message[1]].decode("utf-8", "replace")
