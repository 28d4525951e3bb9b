"""The stand-in for ``hatchet-lite``: five ports, health, REST, gRPC; the real one's order, texts and exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import config_folder, web
from .errors import ConfigurationError
from .golang import flag_error, log, log_event
from .misbehave import fault, fault_text, fault_value, version
from .web import Request, Response

if TYPE_CHECKING:
    from .rest import RestApi
    from .store import Store
    from .tokens import Keys

_USAGE = """Usage:
  hatchet-lite [flags]

Flags:
      --config string   The path the config folder.
  -h, --help            help for hatchet-lite
      --version         print version and exit.
"""


def _leave(code: int) -> NoReturn:
    """End at once, as the real main does: nobody waits for streams or sessions."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(text: str) -> NoReturn:
    log(text)
    _leave(1)


def _panic(text: str) -> NoReturn:
    print(f"panic: {text}\n\ngoroutine 290 [running]:", file=sys.stderr)
    _leave(2)


class Lite:
    """One running engine."""

    def __init__(self, keys: Keys, assets: Path) -> None:
        self._keys = keys
        self._assets = assets
        self._api: RestApi | None = None
        self._store: Store | None = None
        # Servers stop when nobody holds them.
        self._servers: list[Any] = []

    async def _page(self, request: Request) -> Response:
        """The static files; whatever is not a file is the index, which is why this port says 200 to everything."""
        wanted = (self._assets / request.path.lstrip("/")).resolve()
        if wanted.is_file() and wanted.is_relative_to(self._assets.resolve()) and wanted.suffix != ".html":
            return Response(200, wanted.read_bytes(), "application/octet-stream")
        index = (self._assets / "index.html").read_bytes()
        return Response(200, index, "text/html; charset=utf-8", {"Cache-Control": "no-cache"})

    async def _runtime(self, request: Request) -> Response:
        """The port for people and the SDK: the API below ``/api``, else the static files."""
        if not request.path.startswith("/api"):
            return await self._page(request)
        if self._api is None or fault("lite.api-down"):
            return Response(502)
        return await self._api.answer(request)

    async def _api_only(self, request: Request) -> Response:
        if self._api is None:
            return Response(502)
        return await self._api.answer(request)

    async def _health(self, request: Request) -> Response:
        if request.path == "/version":
            return Response(200, f'{{"version":"{version()}"}}\n'.encode(), "text/plain; charset=utf-8")
        if request.path not in ("/ready", "/live"):
            return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")
        good = self._store is not None and not fault("lite.never-ready") and await self._store.database.healthy()
        return Response(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _listen(self, name: str, handler: web.Handler) -> None:
        from . import configuration

        number = int(os.environ[name]) if name == "LITE_FRONTEND_PORT" else configuration.port(name)
        try:
            listening = web.bind("", number)
        except OSError:
            taken = f"listen tcp :{number}: bind: address already in use"
            if name == "SERVER_PORT":
                _panic(taken)
            _fail(
                {
                    "LITE_FRONTEND_PORT": f"static file server failure: {taken}",
                    "LITE_RUNTIME_PORT": f"reverse proxy failure: {taken}",
                    "SERVER_HEALTHCHECK_PORT": "engine failure: could not run with config: could not start health: "
                    f"could not listen on :{number}: {taken}",
                }[name]
            )
        self._servers.append(await web.serve(listening, handler))

    async def run(self) -> None:
        """Start everything in the real order and serve until ended by a signal."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._stop)
        self._watch_for_death(loop)
        if not (self._assets / "index.html").is_file():
            _panic(f"open {self._assets / 'index.html'}: no such file or directory")
        await self._listen("LITE_FRONTEND_PORT", self._page)
        await self._listen("LITE_RUNTIME_PORT", self._runtime)

        from .database import read_dsn
        from .store import Database, Store

        store = Store(Database(read_dsn()))
        await store.database.open()
        await store.load()
        self._store = store
        if (os.environ.get("SERVER_HEALTHCHECK") or "true").lower() not in ("f", "false", "0"):
            await self._listen("SERVER_HEALTHCHECK_PORT", self._health)
        # The API is up only after gRPC, and between the two /api answers 502: so it does in the real engine.
        from .authority import Authority
        from .rest import RestApi

        authority = Authority(self._keys, store.database)
        if not fault("lite.no-grpc"):
            await self._serve_grpc(store, authority)
        serving = asyncio.create_task(store.serve())
        if not fault("lite.api-down"):
            await self._listen("SERVER_PORT", self._api_only)
        self._api = RestApi(store, authority)
        await serving

    async def _serve_grpc(self, store: Any, authority: Any) -> None:
        from . import configuration

        host = os.environ.get("SERVER_GRPC_BIND_ADDRESS") or "127.0.0.1"
        number = configuration.port("SERVER_GRPC_PORT")
        failing = "engine failure: could not run with config: could not start grpc server: failed to listen: "
        try:
            # grpc's own message for a taken port differs from system to system, so look first.
            web.bind(host, number).close()
            from .dispatcher import serve

            self._servers.append(await serve(f"{host}:{number}", store, authority))
        except OSError:
            _fail(f"{failing}listen tcp {host}:{number}: bind: address already in use")

    def _stop(self) -> None:
        if fault("lite.ignore-sigterm"):
            return
        log("cleaning up server config")
        _leave(0)

    def _watch_for_death(self, loop: asyncio.AbstractEventLoop) -> None:
        after = fault_value("lite.die-after")
        if after is not None:
            loop.call_later(float(after), _panic, "runtime error: invalid memory address or nil pointer dereference")


def main(arguments: list[str]) -> int:
    """Run the program; give its exit code."""
    words = list(arguments)
    while words:
        name, has_value, _ = words.pop(0).partition("=")
        if name == "--version":
            print(version())
            return 0
        if name in ("-h", "--help"):
            about = "hatchet-lite runs a Hatchet instance with static files, API and engine all served on the same "
            print(f"{about}instance.\n\n{_USAGE}", end="")
            return 0
        if name != "--config":
            return flag_error(f"unknown flag: {name}", _USAGE)
        if not has_value and words:
            words.pop(0)
    config_folder.adopt(arguments)
    if fault("lite.exit-at-start"):
        log_event("WRN", "connecting without TLS", service="server")
        log_event("ERR", fault_text("told to fail at the start"), service="server")
        log(f"error starting API: {fault_text('told to fail at the start')}")
        return 1
    for required in ("LITE_STATIC_ASSET_DIR", "LITE_FRONTEND_PORT"):
        if not os.environ.get(required):
            log(f"error starting API: {required} environment variable is required")
            return 1
    # Only now: loading the database driver takes ten times as long as answering --version.
    from . import configuration

    try:
        connection, keys = configuration.load(queue=True)
    except ConfigurationError as error:
        if database_text(error):
            log_event("ERR", "error binding queue", error=database_text(error), service="server")
        log(f"error starting API: error loading server config: {error}")
        return 1
    connection.close()
    asyncio.run(Lite(keys, Path(os.environ["LITE_STATIC_ASSET_DIR"])).run())
    return 0


def database_text(error: ConfigurationError) -> str:
    """Give the database's own words in an error about a database that is not migrated, else nothing."""
    return str(error).partition("task_processing_queue_v2: ")[2]
