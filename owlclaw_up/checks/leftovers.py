"""What is left behind: things of ours that nothing on record names, and records of what is gone.

Nothing is called a leftover while another owlclaw-up works in the project, which is making things now; nor where a stack was
lifted by hand, whose maker knows what belongs to it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from owlclaw_up.checks.base import DOCTOR_FIX, Check, Evidence, Fix, Seen, ok
from owlclaw_up.design import PUBLIC_PORTS
from owlclaw_up.facts import DatabasesLook, DockerFacts
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.facts.leftovers import LeftoversLook
from owlclaw_up.facts.stack import known_engines, wanted_engines
from owlclaw_up.host.base import sql_name
from owlclaw_up.host.running import RunningProgram
from owlclaw_up.host.swap import aside, replaced
from owlclaw_up.model import Mode, found
from owlclaw_up.receipts import Receipt
from owlclaw_up.settings import wanted_databases
from owlclaw_up.spec import engine_key
from owlclaw_up.steps.base import Step
from owlclaw_up.steps.containers import database_volume
from owlclaw_up.steps.leftovers import (
    DropCopy,
    EndProgram,
    ForgetReceipts,
    RecordReceipts,
    RemoveContainer,
    RemoveEmptyServer,
    RemoveFile,
    named,
)

_SHOWN = 4


def _look(evidence: Evidence) -> LeftoversLook | None:
    """What was seen; None where nothing of it may be called a leftover."""
    look, docker = found(evidence.facts.leftovers), found(evidence.facts.docker)
    adopted = evidence.ledger.recall("compose").get("adopted") or (docker is not None and docker.by_hand is not None)
    return None if look is None or look.at_work or adopted else look


def _bases_on_record(evidence: Evidence) -> set[Path]:
    ledger = evidence.ledger
    bases = {str(receipt.identity["base"]) for receipt in ledger.receipts("cluster")}
    return {Path(base) for base in (*bases, ledger.recall("postgres").get("base")) if base}


def _unnamed(evidence: Evidence, look: LeftoversLook) -> list[RunningProgram]:
    """Programs that neither state nor receipts name, nor those that the next `up` takes over."""
    ledger, stack = evidence.ledger, evidence.facts.our_stack
    engines = [ledger.process(engine_key(number)) for number in known_engines(ledger)]
    fellows = [look.process for look in stack.fellows.values()]
    known = [*engines, *fellows, ledger.process("postgres"), stack.engine_process, stack.server_process]
    if stack.engine_process is not None:
        # One whose keeper is gone belongs to nobody.
        known.append(ledger.process("sidecar"))
    pids, bases = {process.pid for process in known if process}, _bases_on_record(evidence)
    return [
        program
        for program in look.programs
        if program.process.pid not in pids and not any(program.place.is_relative_to(base) for base in bases)
    ]


def _processes(evidence: Evidence) -> Iterator[Seen]:
    look = _look(evidence)
    if look is None:
        return
    # The engine first: it works with the database until its end.
    left = sorted(_unnamed(evidence, look), key=lambda program: program.name in ("postgres", "initdb"))
    if not left:
        yield ok("every program of ours that runs is on record")
    ports = found(evidence.facts.ports) or {}
    owners = {c.wanted.owner.pid for purpose, c in ports.items() if purpose in PUBLIC_PORTS and c.wanted.owner}
    for program in left:
        pid = program.process.pid
        has_port = pid in owners
        title = f"{program.name} (pid {pid}) runs in {program.place}, and nothing on record names it"
        detail = program.command + ("\nit has a port that is wanted here" if has_port else "")
        yield Seen(
            "fail" if has_port else "warn", title, detail,
            f"end it: {DOCTOR_FIX}; or restore the state.json that named it", DOCTOR_FIX,
            Fix(f"end {program.name}, pid {pid}", (EndProgram(evidence.ledger, program),)),
        )  # fmt: skip


def _docker(evidence: Evidence) -> DockerFacts | None:
    """What Docker has under this checkout's name; None where it is not the engine of the state, or does not answer."""
    docker, kept = found(evidence.facts.docker), evidence.ledger.recall("compose")
    if _look(evidence) is None or docker is None or kept.get("address", docker.look.address) != docker.look.address:
        return None
    return docker


def _on_record(evidence: Evidence, kind: str) -> set[str]:
    return {str(receipt.identity.get("name")) for receipt in evidence.ledger.receipts(kind)}


def _level(evidence: Evidence, docker: DockerFacts) -> str:
    """What holds data that were made with passwords which nobody has any more keeps the next `up` from its end."""
    unnamed = docker.volumes.keys() - _on_record(evidence, "volume")
    in_the_way = evidence.decision is not None and evidence.decision.mode is Mode.FULL
    known = evidence.ledger.vault.passwords.keys() - evidence.ledger.unsaved
    lost = database_volume(docker.project) in unnamed and not known
    return "fail" if in_the_way and lost else "warn"


def _containers(evidence: Evidence) -> Iterator[Seen]:
    docker = _docker(evidence)
    if docker is None:
        return
    # A state that knows the stack knows its services; what else somebody put into that project is theirs.
    ours = () if evidence.ledger.recall("compose") else (DATABASE, ENGINE)
    left = [docker.containers[service] for service in ours if service in docker.containers]
    if not left:
        yield ok("every container of this checkout's is on record")
        return
    names = [container.name for container in left]
    steps = tuple(RemoveContainer(docker.look.address, name) for name in names)
    yield Seen(
        _level(evidence, docker), f"nothing on record names {_containers_text(names)}",
        "\n".join(f"{c.name}: {c.image}, {c.state}" for c in left),
        f"remove it: {DOCTOR_FIX}; or restore the .owlclaw-up that named it", DOCTOR_FIX,
        Fix(f"remove {_containers_text(names)}; volumes stay", steps),
    )  # fmt: skip


def _containers_text(names: list[str]) -> str:
    return f"container{'s' if len(names) > 1 else ''} {_some(names)}"


def _volumes(evidence: Evidence) -> Iterator[Seen]:
    docker = _docker(evidence)
    if docker is None:
        return
    left = sorted(docker.volumes.keys() - _on_record(evidence, "volume"))
    if not left:
        yield ok("every volume of this checkout's is on record")
        return
    command = shlex.join(["docker", "-H", docker.look.address, "volume", "rm", *left])
    held = "; its containers first" if docker.containers else ""
    yield Seen(
        _level(evidence, docker), f"nothing on record names volume{'s' if len(left) > 1 else ''} {_some(left)}",
        "data is in there, and the passwords to it were kept in .owlclaw-up/secrets.json alone",
        f"restore the .owlclaw-up that named it; or remove it with its data{held}: {command}", command,
    )  # fmt: skip


def _kept_server(evidence: Evidence) -> DatabasesLook | None:
    """What is on the server of the state; None where that was not what was looked at."""
    on_server, kept = evidence.facts.our_stack.on_server, evidence.ledger.recall("postgres")
    look = found(on_server.server)
    if look is None or kept.get("kind") not in ("embedded", "local"):
        return None
    same = (
        look.identity == kept.get("identity")
        if kept["kind"] == "local"
        else look.login.port == evidence.ours("postgres")
    )
    return on_server if same else None


def _roles(evidence: Evidence) -> Iterator[Seen]:
    look, on_server = _look(evidence), _kept_server(evidence)
    if look is None or on_server is None or not evidence.standing:
        return
    ledger, ours = evidence.ledger, evidence.ledger.recall("postgres")["kind"] == "embedded"
    seen = list(_copies(evidence, look, ours=ours))
    if ours:
        there = [
            ("role", w.role) for w in wanted_databases(evidence.settings) if on_server.databases[w.name].role_exists
        ]
        there += [("database", name) for name, database in on_server.databases.items() if database.exists]
        new = [(kind, name) for kind, name in dict.fromkeys(there) if not ledger.receipts(kind, name=name)]
        if new:
            names = _some([f"{kind} {name}" for kind, name in new])
            seen.append(
                Seen(
                    "warn", f"{names} on our own PostgreSQL {'is' if len(new) == 1 else 'are'} not on record",
                    "the whole server is ours, so it is as well", f"put it on record: {DOCTOR_FIX}", DOCTOR_FIX,
                    Fix(f"put {names} on record", (RecordReceipts(ledger, new),)),
                )
            )  # fmt: skip
    yield from seen or [ok("roles and databases of ours are on record")]


def _copies(evidence: Evidence, look: LeftoversLook, *, ours: bool) -> Iterator[Seen]:
    """Databases that were made aside for a restore that was killed; not those of an upgrade that goes on."""
    ledger, names = evidence.ledger, look.databases or frozenset()
    if ledger.recall("upgrade").get("phase"):
        return
    for wanted in wanted_databases(evidence.settings):
        for copy in (aside(wanted.name), replaced(wanted.name)):
            # Without the database itself, the copy may be all that there is.
            if copy not in names or wanted.name not in names:
                continue
            title = f"database {copy} is left of a restore of {wanted.name} that was killed"
            if ours:
                fix = Fix(f"drop database {copy}", (DropCopy(ledger, copy),))
                yield Seen(
                    "warn", title, "it takes space, and nobody reads it", f"drop it: {DOCTOR_FIX}", DOCTOR_FIX, fix
                )
            else:
                where = ledger.recall("postgres").get("where")
                yield Seen("info", title, f"on {where}", f"if nobody needs it: DROP DATABASE {sql_name(copy)};")


def _receipts(evidence: Evidence) -> Iterator[Seen]:
    look = _look(evidence)
    if look is None or not evidence.ledger.exists:
        return
    gone = [r for r in evidence.ledger.state.receipts if r.done and _is_gone(r, evidence, look)]
    if not gone:
        yield ok("what is on record is there")
        return
    names = _some([named(receipt) for receipt in gone])
    yield Seen(
        "warn", f"on record, and gone: {names}", f"made by owlclaw-up at {', '.join(dict.fromkeys(r.at for r in gone))}",
        f"if it was removed on purpose: {DOCTOR_FIX}", DOCTOR_FIX,
        Fix(f"forget that owlclaw-up made {names}", (ForgetReceipts(evidence.ledger, gone),)),
    )  # fmt: skip


def _is_gone(receipt: Receipt, evidence: Evidence, look: LeftoversLook) -> bool:
    """Whether what was made is seen not to be there; what could not be looked at is not gone."""
    kept, identity, name = evidence.ledger.recall("postgres"), receipt.identity, receipt.identity.get("name")
    server = kept.get("identity") if kept.get("kind") == "local" else ""
    here = kept.get("kind") in ("embedded", "local") and identity.get("server") == server
    if receipt.kind == "database":
        return here and look.databases is not None and name not in look.databases
    if receipt.kind == "role":
        on_server = _kept_server(evidence)
        of_role = [w.name for w in wanted_databases(evidence.settings) if w.role == name]
        return here and on_server is not None and any(not on_server.databases[d].role_exists for d in of_role)
    if receipt.kind == "cluster":
        return Path(str(identity["base"])) not in {base for base, _ in look.bases}
    if receipt.kind == "volume":
        docker = _docker(evidence)
        return docker is not None and identity.get("project") == docker.project and name not in docker.volumes
    return receipt.kind == "process" and evidence.standing and _not_wanted(str(name), evidence)


def _not_wanted(process: str, evidence: Evidence) -> bool:
    """A process that has ended, and that no `up` would start again as things are."""
    stack = evidence.facts.our_stack
    if process == "engine":
        return stack.engine_process is None and evidence.mode is not Mode.NATIVE
    if process.startswith("engine."):
        number = int(process.partition(".")[2])
        wanted = wanted_engines(evidence.settings, evidence.ledger) if evidence.mode is Mode.NATIVE else 1
        return stack.engine(number).process is None and number > wanted
    return stack.server_process is None and evidence.ledger.recall("postgres").get("kind") != "embedded"


def _files(evidence: Evidence) -> Iterator[Seen]:
    look = _look(evidence)
    if look is None:
        return
    known = _bases_on_record(evidence)
    empty = [base for base, has_data in look.bases if not has_data and base not in known]
    full = [base for base, has_data in look.bases if has_data and base not in known]
    if look.files or empty:
        steps: list[Step] = [*(RemoveFile(file) for file in look.files), *(RemoveEmptyServer(base) for base in empty)]
        told = [f"{file.path}: {file.what}" for file in look.files] + [f"{base}: a server never made" for base in empty]
        names = _some([*(file.path.name for file in look.files), *(base.name for base in empty)])
        yield Seen(
            "warn", f"left by a command that was killed: {names}", "\n".join(told), DOCTOR_FIX, DOCTOR_FIX,
            Fix(f"remove {names}", tuple(steps)),
        )  # fmt: skip
    for base in full:
        command = f"rm -r {shlex.quote(str(base))}"
        yield Seen(
            "warn", f"{base} has the data of a PostgreSQL of this checkout, and nothing on record names it",
            "the .owlclaw-up that was made with it is gone, or is another one",
            f"restore that .owlclaw-up; or, once no server runs there, remove it with its data: {command}", command,
        )  # fmt: skip
    if not (look.files or empty or full):
        yield ok("no file was left behind")


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


_LOST = "state.json was lost or removed while the environment ran, or a command was killed"
_HERE, _IN_DOCKER = ("leftovers", "stack"), ("leftovers", "docker")
CHECKS: tuple[Check, ...] = (
    Check(
        "leftovers.processes", "every program of ours that runs is on record", "a port is taken by a `postgres` or `hatchet-lite`",
        _LOST, "nothing ends it, and it keeps its ports and its data", DOCTOR_FIX, _processes, (*_HERE, "ports"), fixable=True,
    ),
    Check(
        "leftovers.containers", "every container of this checkout's is on record", "`docker ps` shows containers that no purge removes",
        ".owlclaw-up was lost or removed while they were there", "nothing stops them, and they hold on to ports and volumes",
        DOCTOR_FIX, _containers, _IN_DOCKER, fixable=True,
    ),
    Check(
        "leftovers.volumes", "every volume of this checkout's is on record", "`up` ends with exit 4: `volume-password`",
        ".owlclaw-up was lost or removed, and the passwords with it", "nothing new comes up on it: its passwords are lost",
        "restore .owlclaw-up, or the command that the finding has", _volumes, _IN_DOCKER, ("leftovers.containers",),
    ),
    Check(
        "leftovers.roles", "roles and databases of ours are on record", "`\\l` shows databases that nobody asked for",
        "a restore was killed, or state.json is an older copy", "they take space, and no purge knows of them", DOCTOR_FIX,
        _roles, _HERE, fixable=True,
    ),
    Check(
        "leftovers.receipts", "what is on record is there", "`down --purge` speaks of things that are not there",
        "a database, role, volume or data directory was removed by hand",
        "a purge would take what somebody else gives that name", DOCTOR_FIX, _receipts, (*_HERE, "docker"),
        ("postgres.database", "postgres.role", "container.missing"), fixable=True,
    ),
    Check(
        "leftovers.files", "no file was left behind", "`ls -a` shows `.owlclaw-up/.state.json.*.tmp`, or a folder in /var/lib/owlclaw-up",
        "a command was killed in the middle of a write, or .owlclaw-up was lost", "some of them hold secrets, some fill the disk",
        DOCTOR_FIX, _files, _HERE, ("leftovers.processes",), fixable=True,
    ),
)  # fmt: skip
