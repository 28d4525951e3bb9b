"""What is known of the machine: the values that probes give. Frozen, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from owlclaw_up.host import engines
from owlclaw_up.host.base import (
    DatabaseLook,
    GrpcLook,
    PortLook,
    ProcessId,
    RestLook,
    ServerLogin,
    ServerLook,
    ServerRefusal,
    Tls,
)
from owlclaw_up.host.bundle_base import Bundle
from owlclaw_up.host.docker_base import ContainerLook, DockerLook, ImageLook
from owlclaw_up.host.migrations import MigrationsLook
from owlclaw_up.host.names import Resolved
from owlclaw_up.host.remote_base import AccountLook, CertificateLook, ReachLook
from owlclaw_up.host.resources import Disk, Memory, Size
from owlclaw_up.model import Absent, Fact, Mode, Secret, Unknown, found
from owlclaw_up.setting_values import Sourced
from owlclaw_up.spec import EngineBinaries, PostgresBinaries, RemoteLogin, Sidecar
from owlclaw_up.token_claims import Claims

if TYPE_CHECKING:
    from owlclaw_up.facts.docker_health import DockerHealth
    from owlclaw_up.facts.engine_health import EngineHealth
    from owlclaw_up.facts.inside import InsideLook
    from owlclaw_up.facts.leftovers import LeftoversLook
    from owlclaw_up.facts.message_queue import MessageQueueLook
    from owlclaw_up.facts.tokens import TokenFacts

_UNASKED = Unknown("not looked at")


@dataclass(frozen=True)
class PlatformLook:
    """Attributes: memory and disk in MiB, free for us; `uid` is -1 where there are none."""

    system: str
    machine: str
    python: str
    uid: int
    memory_mib: int
    disk_mib: int


@dataclass(frozen=True)
class PortChoice:
    """A port that is wanted, and the next one that is free."""

    wanted: PortLook
    free: int | None


@dataclass(frozen=True)
class ServerCandidate:
    """A PostgreSQL that may be there, and what came of asking it.

    Attributes:
        missing: where the login may not make everything: which of our roles, databases and settings are not there yet.
    """

    source: str
    login: ServerLogin
    look: ServerLook | ServerRefusal
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class DotenvBackup:
    """Attributes:
    keys: those that have a value in it.
    ignored: whether git ignores it; None where there is no git.
    """

    path: Path
    keys: tuple[str, ...]
    ignored: bool | None


@dataclass(frozen=True)
class DotenvLook:
    """The dotenv file.

    Attributes:
        kind: `missing`, `file`, `directory`, `unreadable`.
        error: why its text cannot be edited, if so.
        backup: the copy from before the first edit, where there is one.
    """

    path: Path
    kind: str
    data: bytes = b""
    values: Mapping[str, str] = field(default_factory=dict)
    mode: int = 0
    error: str = ""
    tracked: bool = False
    ignored: bool | None = None
    backup: DotenvBackup | None = None


@dataclass(frozen=True)
class EnvPlace:
    """A place from which hatchet-sdk or OwlClaw reads one of our keys.

    Attributes:
        key: as it is written there; hatchet-sdk makes no difference between upper and lower case.
        where: a file, from the project where it lies in it, or `the shell`.
        line: in that file.
    """

    key: str
    where: str
    line: int | None
    value: Secret

    @property
    def text(self) -> str:
        """The place for a reader."""
        return f"{self.where}, line {self.line}" if self.line else self.where


@dataclass(frozen=True)
class EnvPlaces:
    """Everything that is read for our keys.

    Attributes:
        written: in the dotenv file itself, in its order; the last one of a key counts.
        over: what wins over the dotenv file, the strongest first.
        elsewhere: the working directory, where a program that is started in it reads no dotenv file of the project; None
            where it does.
    """

    written: tuple[EnvPlace, ...] = ()
    over: tuple[EnvPlace, ...] = ()
    elsewhere: Path | None = None


@dataclass(frozen=True)
class SdkLook:
    """The hatchet-sdk that is installed beside us.

    Attributes:
        floor: the oldest engine that it drives without its legacy path.
    """

    version: str
    floor: str


@dataclass(frozen=True)
class SidecarLook:
    """Hatchet's embedded engine.

    Attributes:
        found: the one that could be started.
        serves: whether the engine that was started here last is one, and one came up here before.
    """

    found: Sidecar | engines.EngineRefused
    serves: bool


@dataclass(frozen=True)
class PythonLook:
    """The Python that runs the project's programs.

    Attributes:
        path: which one, from the project where it lies in it.
        own: whether it is one of a virtual environment of the project's, not the one that runs us.
        version: of Python itself.
        machine: the architecture that it was built for.
        emulated: the machine's own architecture, where that is another one.
        no_zones: why it finds no time zones; empty where it does.
        no_semaphores: why its processes can share no locks; empty where they can.
        sdk: the hatchet-sdk that is installed for it.
        install: the command, without its last word, that puts a package into it.
        make_anew: the command that makes its virtual environment anew.
    """

    path: str
    own: bool
    version: str
    bits: int
    machine: str
    emulated: str
    no_zones: str
    no_semaphores: str
    sdk: SdkLook | None
    install: str
    make_anew: str


@dataclass(frozen=True)
class ResourcesLook:
    """What this machine has left for us.

    Attributes:
        disks: by what of ours lies, or will lie, there.
        open_files: soft and hard limit, -1 for none.
        refused: the first folder in which `up` must write and may not, with why.
        closed: the user that runs our server, the folder that keeps it from its data, and why; None where nothing does.
    """

    memory: Memory
    disks: Mapping[str, Disk]
    open_files: tuple[int, int] | None
    refused: tuple[Path, str] | None
    closed: tuple[str, Path, str] | None


@dataclass(frozen=True)
class UsageLook:
    """What we take of the disk. Attributes: `places` and `sizes`, both by what it is."""

    places: Mapping[str, Path]
    sizes: Mapping[str, Size]


@dataclass(frozen=True)
class Tried:
    """Something that the project's Python really did.

    Attributes:
        python: which one, from the project where it lies in it.
        version: of the package that it is about.
        seconds: the interpreter's start included.
    """

    python: str
    version: str
    seconds: float


@dataclass(frozen=True)
class WebLook:
    """What the engine serves on the dashboard's port.

    Attributes:
        status: of the first page, 0 where nobody answered.
        html: whether that is a page for a browser.
        headless: the page is ours, in the place of a dashboard that the engine came without.
        sidecar: the engine is Hatchet's embedded one, which has none.
        rest: what came of asking over REST with the kept token; None where there is none.
        url: where the dashboard is.
    """

    port: int
    status: int
    html: bool
    headless: bool
    rest: RestLook | None
    url: str = ""
    sidecar: bool = False


@dataclass(frozen=True)
class RemoteTarget:
    """The server that is meant, as far as it is known.

    Attributes:
        token: None where there is none.
        origin: where that one comes from, for the reader.
        made: whether it is one that we made by a login.
        trouble: why the file of the token cannot be read.
        server_url, grpc_address: each with where it comes from; empty where nothing says it.
        tls: how TLS is expected over gRPC; None for plain text.
        tls_from: what says so.
        email: of a login, with or without a password.
        certificate: the client's own, by its files; None where none is to be shown.
    """

    token: Secret | None
    origin: str
    made: bool
    claims: Claims | None
    trouble: str
    server_url: Sourced[str]
    grpc_address: Sourced[str]
    tls: Tls | None
    tls_from: str
    root_ca: str
    email: str
    login: RemoteLogin | None
    certificate: CertificateLook | None = None


@dataclass(frozen=True)
class RemoteLook:
    """What came of asking. What was not asked is None.

    Attributes:
        grpc_reach, rest_reach: why a call did not get through.
        due: the token is one of ours, and near its end.
        offline: nothing was asked, since the server is on another machine.
        version: of the engine, as REST says it where there is no token to ask gRPC with.
        now: seconds since the epoch.
    """

    target: RemoteTarget
    now: float
    grpc: GrpcLook | None = None
    rest: RestLook | None = None
    grpc_reach: ReachLook | None = None
    rest_reach: ReachLook | None = None
    account: AccountLook | None = None
    due: bool = False
    offline: bool = False
    version: str = ""


@dataclass(frozen=True)
class TokenLook:
    """A token, its claims, and whether the engine takes it; None where that could not be asked."""

    token: Secret
    claims: Claims
    grpc: GrpcLook | None


@dataclass(frozen=True)
class LoginLook:
    """Whether an owner role lets us in.

    Attributes:
        password: the one that works, None where none does.
        refusal: the last refusal.
    """

    password: Secret | None
    refusal: ServerRefusal | None = None


@dataclass(frozen=True)
class DatabasesLook:
    """Our databases and roles on one server.

    Attributes:
        logins: by role; an entry for every one that exists there.
        refusal: of the admin's login, where it is refused.
    """

    server: Fact[ServerLook] = field(default_factory=lambda: Absent("nothing was set up here yet"))
    databases: Mapping[str, DatabaseLook] = field(default_factory=dict)
    logins: Mapping[str, LoginLook] = field(default_factory=dict)
    tenant: bool = False
    refusal: ServerRefusal | None = None


@dataclass(frozen=True)
class EngineLook:
    """One native engine: its process, whether it is ready, and what it answers."""

    process: ProcessId | None
    ready: bool
    answers: str


@dataclass(frozen=True)
class StackLook:
    """What stands of our own environment, as far as the state says there is one.

    Attributes:
        fellows: the engines beside the first, by number; those that were ever started.
    """

    server_process: ProcessId | None = None
    on_server: DatabasesLook = field(default_factory=DatabasesLook)
    engine_process: ProcessId | None = None
    engine_ready: bool = False
    engine_answers: str = ""
    token: TokenLook | None = None
    fellows: Mapping[int, EngineLook] = field(default_factory=dict)

    def engine(self, number: int) -> EngineLook:
        """One of the native engines; the first is 1."""
        if number == 1:
            return EngineLook(self.engine_process, self.engine_ready, self.engine_answers)
        return self.fellows.get(number, EngineLook(None, False, "not running"))


@dataclass(frozen=True)
class ByHand:
    """A stack that somebody lifted with `docker compose` from this checkout's own files.

    Attributes:
        file: the compose file.
        mode: which of our modes it is.
    """

    project: str
    file: Path
    mode: Mode
    containers: Mapping[str, ContainerLook]


@dataclass(frozen=True)
class DockerFacts:
    """A Docker engine, and what it has of this project.

    Attributes:
        images: those that the settings name, None for one that is not there.
        project: our compose project.
        containers: of that project, by service.
        volumes: of that project, each with its name in the compose file.
        by_hand: a stack that could be adopted.
        published: ports of this machine that any container has, with that container's name.
    """

    look: DockerLook
    images: Mapping[str, ImageLook | None] = field(default_factory=dict)
    project: str = ""
    containers: Mapping[str, ContainerLook] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    by_hand: ByHand | None = None
    published: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """Everything that was seen, at one moment. The facts with a default are looked for only where they are asked for.

    Attributes:
        fellow_ports: ports of the wanted engines beside the first, by number and purpose.
        seconds: what each probe took.
        broken: the probes that crashed or ran out of time, each with how.
    """

    project: Path
    platform: Fact[PlatformLook]
    ports: Fact[Mapping[str, PortChoice]]
    servers: Fact[tuple[ServerCandidate, ...]]
    docker: Fact[DockerFacts]
    engines: Fact[tuple[EngineBinaries | engines.EngineRefused, ...]]
    postgres_binaries: Fact[tuple[PostgresBinaries, ...]]
    dotenv: Fact[DotenvLook]
    shadows: Fact[EnvPlaces]
    sdk: Fact[SdkLook]
    proxies: Fact[Mapping[str, str]]
    stack: Fact[StackLook]
    fellow_ports: Fact[Mapping[int, Mapping[str, int]]] = _UNASKED
    sidecar: Fact[SidecarLook] = _UNASKED
    leftovers: Fact[LeftoversLook] = _UNASKED
    web: Fact[WebLook] = _UNASKED
    remote: Fact[RemoteLook] = _UNASKED
    migrations: Fact[MigrationsLook] = _UNASKED
    inside: Fact[InsideLook] = _UNASKED
    engine_health: Fact[EngineHealth] = _UNASKED
    message_queue: Fact[MessageQueueLook] = _UNASKED
    tokens: Fact[TokenFacts] = _UNASKED
    docker_health: Fact[DockerHealth] = _UNASKED
    pytest: Fact[Tried] = _UNASKED
    client: Fact[Tried] = _UNASKED
    mock_run: Fact[Tried] = _UNASKED
    python: Fact[PythonLook] = _UNASKED
    resources: Fact[ResourcesLook] = _UNASKED
    usage: Fact[UsageLook] = _UNASKED
    names: Fact[Mapping[str, Resolved]] = _UNASKED
    bundle: Fact[Bundle] = _UNASKED
    seconds: Mapping[str, float] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def our_stack(self) -> StackLook:
        return found(self.stack) or StackLook()

    @property
    def containers(self) -> Mapping[str, ContainerLook]:
        """Our containers by service, whether they run or not; those of an adopted stack too."""
        docker = found(self.docker)
        if docker is None:
            return {}
        return docker.by_hand.containers if docker.by_hand else docker.containers
