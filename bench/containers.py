"""The figures with Docker: `full` beside a compose file as people write it, `hatchet-only` beside the container alone.

Wants a Docker engine with both images on it; without, `make bench` leaves these figures out and says so.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.ground import Project, answers, free_port, local_postgres, timed
from owlclaw_up.settings import DEFAULT_HATCHET_IMAGE, DEFAULT_POSTGRES_IMAGE

_BY_HAND = Path(__file__).with_name("by-hand.yml")
TARGETS = {
    "full doctor": "<= 1.5 s",
    "full / by hand": "<= 0.45",
    "full again": "<= 0.8 s",
    "full down": "<= 3 s",
    "hatchet-only": "<= 4 s, where the container alone takes 2.4 s",
}


def docker(*words: str, **env: str) -> str:
    ran = subprocess.run(
        ["docker", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if ran.returncode:
        raise SystemExit(f"docker {' '.join(words)}: {ran.stdout}{ran.stderr}")
    return ran.stdout


def missing() -> str:
    """Why these figures cannot be had here; empty where they can."""
    for image in (DEFAULT_HATCHET_IMAGE, DEFAULT_POSTGRES_IMAGE):
        ran = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=False)
        if ran.returncode:
            return f"no {image}: {ran.stderr.strip()}"
    return ""


def one_run() -> dict[str, float]:
    """One of each figure, in seconds."""
    took = {"by hand with compose": _by_hand(), "the container alone": _container_alone()}
    project = Project(PGHOST="/nonexistent")
    try:
        took["full"] = timed(lambda: project("up", "--mode", "full", "--smoke", "none"))
        took["full again"] = timed(lambda: _again(project))
        took["full status"] = timed(lambda: project("status"))
        took["full doctor"] = timed(lambda: project("doctor", "--strict"))
        took["full down"] = timed(lambda: project("down"))
        took["full after down"] = timed(lambda: project("up", "--smoke", "none"))
    finally:
        project.close()
    with local_postgres() as url:
        project = Project(OWLCLAW_UP_ADMIN_URL=url)
        try:
            took["hatchet-only"] = timed(lambda: project("up", "--mode", "hatchet-only", "--smoke", "none"))
        finally:
            project.close()
    return took


def _again(project: Project) -> None:
    changed = [s["id"] for s in project("up", "--smoke", "none")["steps"] if s["action"] not in ("unchanged", "skip")]
    if changed:
        raise SystemExit(f"the second up changed {changed}")


def _by_hand() -> float:
    """`up -d`, a token by exec, and the API polled, as the page of every README says."""
    ports = {f"BENCH_{name}_PORT": str(free_port()) for name in ("POSTGRES", "DASHBOARD", "GRPC")}
    compose = ("compose", "-f", str(_BY_HAND))

    def work() -> None:
        docker(*compose, "up", "-d", **ports)
        token = ("exec", "-T", "hatchet-lite", "/hatchet-admin", "token", "create", "--config", "/config")
        _until(lambda: _works(*compose, *token, **ports))
        _until(lambda: answers(int(ports["BENCH_DASHBOARD_PORT"]), "/api/ready"))

    try:
        return timed(work)
    finally:
        docker(*compose, "down", "-v", "-t", "2", **ports)


def _container_alone() -> float:
    """The engine's container from its start to its API, on a server that is there: migration, seed, start."""
    dashboard, *others = (free_port() for _ in range(5))
    names = ("SERVER_GRPC_PORT", "SERVER_PORT", "LITE_FRONTEND_PORT", "SERVER_HEALTHCHECK_PORT")
    with local_postgres(hatchet=True) as url:
        env = {
            "DATABASE_URL": url, "PGTZ": "UTC", "LITE_RUNTIME_PORT": str(dashboard),
            "SERVER_URL": f"http://localhost:{dashboard}", "SERVER_GRPC_BROADCAST_ADDRESS": f"localhost:{others[0]}",
            "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": f"127.0.0.1:{others[0]}",
            "SERVER_GRPC_INSECURE": "t", "SERVER_AUTH_COOKIE_DOMAIN": "localhost", "SERVER_AUTH_COOKIE_INSECURE": "t",
            "SERVER_SECURITY_CHECK_ENABLED": "false", **dict(zip(names, map(str, others), strict=True)),
        }  # fmt: skip
        options = [word for name in env for word in ("-e", name)]
        container = ""

        def work() -> None:
            nonlocal container
            container = docker("run", "-d", "--network", "host", *options, DEFAULT_HATCHET_IMAGE, **env).strip()
            _until(lambda: answers(dashboard, "/api/ready"))

        try:
            return timed(work)
        finally:
            docker("rm", "-f", "-v", container)


def _works(*words: str, **env: str) -> bool:
    return (
        subprocess.run(["docker", *words], env={**os.environ, **env}, capture_output=True, check=False).returncode == 0
    )


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("it did not come up within 120 s")
        time.sleep(0.05)
