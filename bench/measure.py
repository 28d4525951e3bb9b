"""`make bench`: what owlclaw-up takes, beside the same stages run by hand in the same run. Medians, and ratios.

By hand means: the very binaries, one after another, from Python, with nothing decided, checked or kept. Wants a real
engine: OWLCLAW_UP_ENGINE_DIR, or one in the engine cache. Writes bench/results.md and bench/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from bench import containers
from bench.ground import COMMAND, Project, answers, connected, free_port, timed
from owlclaw_up.host.embedded import EmbeddedServers, find_binaries, remove_base
from owlclaw_up.host.engines import find
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.model import Secret
from owlclaw_up.spec import EngineBinaries

HERE = Path(__file__).parent
# What each figure may be: seconds, or a ratio to another figure plus the start of Python.
TARGETS = {
    "help": "<= 0.15 s",
    "status": "<= 0.5 s",
    "doctor": "<= 1.5 s",
    "doctor, engine frozen": "<= 4 s",
    "up again": "<= 0.6 s, every step =",
    "up first": "<= 1.3 x by hand, plus Python's own start",
    "smoke": "<= 5 s",
}


def by_hand(engine: EngineBinaries) -> dict[str, float]:
    """initdb and start, role and database, keys, migrate, seed, engine to ready, token: each stage's seconds."""
    processes = LocalProcesses()
    servers = EmbeddedServers(processes)
    binaries = find_binaries(processes, os.environ.get("PATH", ""))[0]
    work = Path(tempfile.mkdtemp(prefix="owlclaw-up-hand-"))
    port, grpc, health, runtime, api, frontend = (free_port() for _ in range(6))
    place = servers.choose_place(work, [f"bench-{os.getpid()}"], binaries, lambda base: True)
    url = f"postgresql://hatchet:secret@127.0.0.1:{port}/hatchet"
    admin = f"postgresql://postgres:secret@127.0.0.1:{port}/postgres"
    assets = work / "assets"
    assets.mkdir()
    (assets / "index.html").write_text("<html></html>")
    env = {
        "PATH": os.environ["PATH"], "HOME": str(work), "DATABASE_URL": url, "PGTZ": "UTC", "DATABASE_MAX_CONNS": "50",
        "SERVER_URL": f"http://localhost:{runtime}", "SERVER_PORT": str(api), "SERVER_GRPC_PORT": str(grpc),
        "SERVER_GRPC_BROADCAST_ADDRESS": f"localhost:{grpc}", "SERVER_GRPC_INSECURE": "t",
        "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": f"127.0.0.1:{grpc}",
        "SERVER_HEALTHCHECK_PORT": str(health), "SERVER_AUTH_COOKIE_DOMAIN": "localhost",
        "SERVER_AUTH_COOKIE_INSECURE": "t", "SERVER_AUTH_COOKIE_SECRETS": f"{'a' * 32} {'b' * 32}",
        "SERVER_MSGQUEUE_KIND": "postgres", "SERVER_SECURITY_CHECK_ENABLED": "false",
        "LITE_RUNTIME_PORT": str(runtime), "LITE_FRONTEND_PORT": str(frontend), "LITE_STATIC_ASSET_DIR": str(assets),
        "ADMIN_PASSWORD": "Abcdef123xyz",
    }  # fmt: skip
    running: list[Any] = []

    def run(*argv: str) -> None:
        subprocess.run(argv, env=env, cwd=work, check=True, capture_output=True)

    def start_postgres() -> None:
        servers.initdb(place, binaries, Secret("secret"), work / "log")
        running.append(servers.start(place, binaries, port, work / "log"))
        connected(admin).close()

    def databases() -> None:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("create role hatchet login password 'secret'")
            connection.execute("create database hatchet owner hatchet template template0")
            connection.execute("create role owlclaw login password 'secret'")
            connection.execute("create database owlclaw owner owlclaw template template0")
        with psycopg.connect(admin.removesuffix("postgres") + "owlclaw", autocommit=True) as inside:
            inside.execute("create extension vector")

    def keys() -> None:
        folder = work / "keys"
        folder.mkdir()
        run(str(engine.admin), "keyset", "create-local-keys", "--key-dir", str(folder))
        names = ("MASTER", "JWT_PRIVATE", "JWT_PUBLIC")
        files = ("master.key", "private_ec256.key", "public_ec256.key")
        for name, file in zip(names, files, strict=True):
            env[f"SERVER_ENCRYPTION_{name}_KEYSET"] = (folder / file).read_text().strip()

    def start_engine() -> None:
        running.append(processes.start([str(engine.lite)], env=env, cwd=work, log=work / "lite.log"))
        while not (answers(health, "/ready") and answers(runtime, "/api/ready")):
            time.sleep(0.02)

    stages: dict[str, Callable[[], Any]] = {
        "initdb and start": start_postgres,
        "roles and databases": databases,
        "keys": keys,
        "migrate": lambda: run(str(engine.migrate)),
        "seed": lambda: run(str(engine.admin), "seed"),
        "engine to ready": start_engine,
        "token": lambda: run(str(engine.admin), "token", "create"),
    }
    try:
        return {name: timed(stage) for name, stage in stages.items()}
    finally:
        for process in reversed(running):
            processes.stop(process, signal=signal.SIGINT, timeout=10)
        remove_base(place.base)
        shutil.rmtree(work, ignore_errors=True)


def measure(engine: EngineBinaries, runs: int, *, with_docker: bool) -> dict[str, list[float]]:
    """Every figure, once per run, interleaved so that a slow minute of the machine touches all alike."""
    figures: dict[str, list[float]] = {}
    for number in range(runs):
        print(f"run {number + 1} of {runs}", file=sys.stderr, flush=True)
        seconds = one_run(engine) | (containers.one_run() if with_docker else {})
        for name, value in seconds.items():
            figures.setdefault(name, []).append(value)
    return figures


def one_run(engine: EngineBinaries) -> dict[str, float]:
    """One of each figure, in seconds."""
    stages = by_hand(engine)
    took = {f"by hand: {name}": seconds for name, seconds in stages.items()}
    took["by hand"] = sum(stages.values())
    took["python"] = timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    took["help"] = timed(lambda: subprocess.run([*COMMAND, "--help"], check=True, capture_output=True))
    project = Project(OWLCLAW_UP_ENGINE_DIR=str(engine.directory), DOCKER_HOST="unix:///nonexistent.sock")
    try:
        took["up first"] = timed(lambda: project("up", "--mode", "native", "--smoke", "none"))
        # The first proof on a new engine waits for its scheduler; what is told is what `smoke` takes from then on.
        took["smoke, the first"] = float(project("smoke")["seconds"])
        took["smoke"] = float(project("smoke")["seconds"])
        begun = time.monotonic()
        again = project("up")
        took["up again"] = time.monotonic() - begun
        changed = [s["id"] for s in again["steps"] if s["action"] != "unchanged"]
        if changed:
            raise SystemExit(f"the second up changed {changed}")
        took["status"] = timed(lambda: project("status"))
        took["doctor"] = timed(lambda: project("doctor", "--strict"))
        pid = json.loads((project.root / ".owlclaw-up/state.json").read_text())["data"]["engine"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            took["doctor, engine frozen"] = timed(lambda: project("doctor", code=1))
        finally:
            os.kill(pid, signal.SIGCONT)
        took["down"] = timed(lambda: project("down"))
        took["up after down"] = timed(lambda: project("up", "--smoke", "none"))
    finally:
        project.close()
    return took


def table(medians: dict[str, float], version: str, runs: int, no_docker: str) -> str:
    """The page, with what each figure may be."""
    native = (medians["up first"] - medians["python"]) / medians["by hand"]
    names = (
        "help",
        "status",
        "doctor",
        "doctor, engine frozen",
        "up again",
        "up first",
        "up after down",
        "smoke, the first",
        "smoke",
        "down",
    )
    stages = tuple(name for name in medians if name.startswith("by hand:"))
    rows = [
        *(f"| {name} | {medians[name]:.2f} s | {TARGETS.get(name, '')} |" for name in (*names, *stages, "by hand")),
        f"| up first / by hand (Python's start taken off) | {native:.2f} | <= 1.3 |",
    ]
    if no_docker:
        rows.append(f"| with Docker | | not measured: {no_docker} |")
    else:
        in_docker = (
            "full", "full again", "full status", "full doctor", "full down", "full after down", "by hand with compose",
            "hatchet-only", "the container alone",
        )  # fmt: skip
        rows += [f"| {name} | {medians[name]:.2f} s | {containers.TARGETS.get(name, '')} |" for name in in_docker]
        ratio = medians["full"] / medians["by hand with compose"]
        rows.append(f"| full / by hand with compose | {ratio:.2f} | {containers.TARGETS['full / by hand']} |")
    about = f"Engine {version}, Python {platform.python_version()}, {os.cpu_count()} cores, medians of {runs}."
    head = [
        "# Measurements",
        "",
        "`make bench` writes this file.",
        "",
        about,
        "",
        "| what | median | target |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    named = os.environ.get("OWLCLAW_UP_ENGINE_DIR")
    engines = [
        e
        for e in find(Path(named) if named else None, None, os.environ, LocalProcesses())
        if isinstance(e, EngineBinaries)
    ]
    if not engines:
        raise SystemExit("no engine at hand: OWLCLAW_UP_ENGINE_DIR=DIR make bench, or owlclaw-up engine import DIR")
    no_docker = containers.missing()
    figures = measure(engines[0], runs, with_docker=not no_docker)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    text = table(medians, engines[0].version, runs, no_docker)
    (HERE / "results.md").write_text(text)
    (HERE / "results.json").write_text(json.dumps({"engine": engines[0].version, "seconds": figures}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
