"""One Docker engine, by the `docker` SDK: images, containers, one-shot runs, exec, logs. Compose is a child process.

What the engine refuses becomes an error of ours here, its own words in the detail.
"""

from __future__ import annotations

import contextlib
import secrets
import tarfile
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owlclaw_up.errors import DockerAway, DockerRefused, PullFailed
from owlclaw_up.host.base import Ran, on_this_machine
from owlclaw_up.host.docker_base import ContainerLook, EngineInfo, ImageLook
from owlclaw_up.host.docker_words import pull_failure

if TYPE_CHECKING:
    import docker
    from docker.types import CancellableStream

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_TIMEOUT = 20
# Seconds without a byte: an engine may lay the whole archive out on its disk before it sends the first one.
_SAVE = 300
_CHUNK = 1 << 20


class DockerEngine:
    """`host.base.Docker` for an engine that answers.

    Args:
        address: as in DOCKER_HOST.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @cached_property
    def _client(self) -> docker.APIClient:
        client = self._connect(_TIMEOUT)
        # Whoever asks has nothing to close.
        weakref.finalize(self, client.close)
        return client

    def _connect(self, timeout: int) -> docker.APIClient:
        import docker

        with self._translated("answer"):
            return docker.APIClient(base_url=self.address, timeout=timeout)

    def info(self) -> EngineInfo:
        with self._translated("say what it is"):
            said = self._client.info()
        options = [str(option) for option in said.get("SecurityOptions") or ()]
        return EngineInfo(
            str(said.get("Name", "")), str(said.get("OperatingSystem", "")), str(said.get("DockerRootDir", "")),
            any("rootless" in option for option in options),
        )  # fmt: skip

    def image(self, reference: str) -> ImageLook | None:
        """The image of that name, None where it is not on the engine."""
        import docker

        with self._translated(f"look at image {reference}"):
            try:
                seen = self._client.inspect_image(reference)  # type: ignore[no-untyped-call]
            except docker.errors.NotFound:
                return None
        return ImageLook(
            seen["Id"], str(seen.get("Architecture", "")), tuple(seen.get("RepoDigests") or ()),
            int(seen.get("Size") or 0),
        )  # fmt: skip

    def save(self, reference: str, file: Path, progress: Callable[[int], None]) -> None:
        """Write an image into an archive, as `docker save` does.

        Args:
            file: made anew.
            progress: told the bytes that have come.

        Raises:
            OSError: the file cannot be written.
        """
        done = 0
        with (
            self._translated(f"save image {reference}"),
            contextlib.closing(self._connect(_SAVE)) as client,
            file.open("wb") as archive,
        ):
            for chunk in client.get_image(reference, chunk_size=_CHUNK):
                archive.write(chunk)
                done += len(chunk)
                progress(done)

    def pull(self, reference: str, source: str, progress: Callable[[int, int], None]) -> None:
        """Pull an image, once; layers that are here are not fetched again.

        Args:
            reference: the name that it shall have.
            source: where it is pulled from; another name where a mirror stands in.
            progress: told the bytes that have come, and the bytes that are known to come.

        Raises:
            PullFailed: with the cause by its words.
        """
        import docker
        import requests
        import urllib3

        layers: dict[str, tuple[int, int]] = {}
        repository, tag = split_reference(source)
        try:
            with contextlib.closing(self._connect(_TIMEOUT)) as client:
                # The library sets no limit to a pull: who waits for it has to.
                for line in client.pull(repository, tag=tag, stream=True, decode=True):
                    if "error" in line:
                        words = str((line.get("errorDetail") or {}).get("message") or line["error"])
                        raise PullFailed(reference, source, pull_failure(words), words)
                    _count(layers, line)
                    progress(sum(done for done, _ in layers.values()), sum(total for _, total in layers.values()))
                if source != reference:
                    name, new_tag = split_reference(reference)
                    client.tag(source, name, new_tag)
        except docker.errors.APIError as error:
            words = str(error.explanation or error)
            raise PullFailed(reference, source, pull_failure(words), words) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, docker.errors.StreamParseError) as error:
            # That is the engine's end of the line, not the registry's.
            raise DockerRefused(f"pull {reference}", self.address, f"{type(error).__name__}: {error}") from None
        except docker.errors.DockerException as error:
            words = f"{type(error).__name__}: {error}"
            raise PullFailed(reference, source, pull_failure(words), words) from None

    def containers(self, project: str) -> dict[str, ContainerLook]:
        """The containers of a compose project by service, whether they run or not; of no other project."""
        return {c.service: c for c in self.labelled(f"{PROJECT}={project}")}

    def container(self, name: str) -> ContainerLook | None:
        """A container by its name or id, None where it is gone."""
        import docker

        with self._translated(f"look at container {name}"):
            try:
                return _container(self._client.inspect_container(name))
            except docker.errors.NotFound:
                return None

    def labelled(self, *labels: str) -> list[ContainerLook]:
        """Every container that carries all these labels, `name` or `name=value`, compared exactly."""
        import docker

        found = []
        with self._translated("list containers"):
            for listed in self._client.containers(all=True, filters={"label": list(labels)}):
                with contextlib.suppress(docker.errors.NotFound):
                    found.append(_container(self._client.inspect_container(listed["Id"])))
        return [c for c in found if c.labels.get("com.docker.compose.oneoff", "False") == "False"]

    def published(self) -> dict[int, str]:
        """Ports of this machine that running containers have, each with the container's name."""
        ports = {}
        with self._translated("list containers"):
            for listed in self._client.containers():
                for port in listed.get("Ports") or ():
                    if port.get("PublicPort"):
                        ports[int(port["PublicPort"])] = str(listed["Names"][0]).lstrip("/")
        return ports

    def volumes(self, project: str) -> dict[str, str]:
        """Names of a project's volumes, with the name that the compose file has for each."""
        with self._translated("list volumes"):
            listed = self._client.volumes(filters={"label": [f"{PROJECT}={project}"]})["Volumes"] or []
        return {v["Name"]: str((v.get("Labels") or {}).get("com.docker.compose.volume", "")) for v in listed}

    def networks(self, project: str) -> list[str]:
        with self._translated("list networks"):
            return [n["Name"] for n in self._client.networks(filters={"label": [f"{PROJECT}={project}"]})]

    def logs(self, container: str, tail: int | None = None, since: float | None = None) -> list[str]:
        """Lines of a container's log, as it wrote them; none where the container is gone.

        Args:
            tail: the last so many lines; all where None.
            since: seconds since the epoch.
        """
        import docker

        with self._translated(f"read the log of {container}"):
            try:
                data = self._client.logs(
                    container, tail="all" if tail is None else tail, since=None if since is None else int(since)
                )
            except docker.errors.NotFound:
                return []
        return str(data.decode("utf-8", "replace")).splitlines()

    def follow(self, container: str) -> Iterator[str]:
        """New lines of a log as they come, until the container ends."""
        rest = b""
        with self._translated(f"follow the log of {container}"), contextlib.closing(self._connect(86400)) as client:
            for part in client.logs(container, stream=True, follow=True, tail=0):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace").rstrip("\r")

    def execute(self, container: str, argv: Sequence[str], timeout: float) -> Ran:
        """Run a command in a running container; its two streams apart, its exit code last.

        Args:
            timeout: seconds; then it is left behind, and its exit code is -9.
        """
        begun = time.monotonic()
        with self._translated(f"run {argv[0]} in {container}"):
            created = self._client.exec_create(container, list(argv), stdout=True, stderr=True, tty=False)["Id"]
            with contextlib.closing(self._connect(int(timeout) + 5)) as client:
                parts = _Streams(client.exec_start(created, stream=True, demux=True))
                parts.join(timeout)
                # None while it still runs.
                code = self._client.exec_inspect(created)["ExitCode"]
        return Ran(tuple(argv), -9 if code is None else code, parts.text(0), parts.text(1), time.monotonic() - begun)

    def execute_into(
        self,
        container: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        write: Callable[[bytes], object],
        timeout: float,
    ) -> Ran:
        """As `execute`, with an environment of its own; what it prints is written as it comes, and not kept.

        Args:
            env: secrets may be among it: no command line and no log has it.
        """
        begun = time.monotonic()
        with self._translated(f"run {argv[0]} in {container}"):
            created = self._client.exec_create(
                container, list(argv), stdout=True, stderr=True, tty=False, environment=dict(env)
            )["Id"]
            with contextlib.closing(self._connect(int(timeout) + 5)) as client:
                parts = _Streams(client.exec_start(created, stream=True, demux=True), write)
                parts.join(timeout)
                code = self._client.exec_inspect(created)["ExitCode"]
        if parts.failure is not None:
            raise parts.failure
        return Ran(tuple(argv), -9 if code is None else code, "", parts.text(1), time.monotonic() - begun)

    def put(self, container: str, source: Path, target: str) -> None:
        """Copy a file into a container, readable by its programs."""
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                entry = tar.gettarinfo(str(source), arcname=target.lstrip("/"))
                entry.mode, entry.uid, entry.gid = 0o644, 0, 0
                with source.open("rb") as file:
                    tar.addfile(entry, file)
            archive.seek(0)
            with self._translated(f"copy a file into {container}"):
                self._client.put_archive(container, "/", archive)

    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        network: str,
        labels: Mapping[str, str],
        timeout: float,
    ) -> Ran:
        """Run a command in a container of its own, which is gone afterwards. Nothing of it reaches a log on disk.

        Args:
            network: `bridge`, `host`, or the name of a network.
            timeout: seconds; then it is killed, and its exit code is -9.
        """
        import requests

        begun = time.monotonic()
        with self._translated(f"run {argv[0]} in a container of {image}"):
            options: dict[str, Any] = {"network_mode": network, "log_config": {"Type": "none"}}
            if network != "host":
                options["extra_hosts"] = {"host.docker.internal": "host-gateway"}
            created = f"owlclaw-up-{secrets.token_hex(6)}"
            try:
                self._client.create_container(
                    image, command=list(argv[1:]), entrypoint=[argv[0]], environment=dict(env), name=created,
                    labels=dict(labels), host_config=self._client.create_host_config(**options),
                )  # fmt: skip
            except BaseException:
                # An interrupt comes while the engine is making it, or just has.
                self.remove_container(created)
                raise
        try:
            with self._translated(f"run {argv[0]} in a container of {image}"):
                streams = self._client.attach(created, stdout=True, stderr=True, stream=True, logs=False, demux=True)
                self._client.start(created)
                parts = _Streams(streams)
                try:
                    code = int(self._client.wait(created, timeout=max(1, int(timeout)))["StatusCode"])
                    parts.join(2)
                except requests.RequestException:
                    code = -9
            return Ran(tuple(argv), code, parts.text(0), parts.text(1), time.monotonic() - begun)
        finally:
            self.remove_container(created)

    def stop(self, container: str, timeout: int) -> None:
        """Stop a container; after `timeout` seconds it is killed."""
        with self._translated(f"stop container {container}"):
            self._client.stop(container, timeout=timeout)

    def remove_container(self, container: str) -> None:
        self._remove("remove_container", container, v=True, force=True)

    def remove_volume(self, name: str) -> None:
        self._remove("remove_volume", name)

    def remove_network(self, name: str) -> None:
        self._remove("remove_network", name)

    def _remove(self, how: str, name: str, **options: Any) -> None:
        import docker

        with self._translated(f"remove {name}"), contextlib.suppress(docker.errors.NotFound):
            getattr(self._client, how)(name, **options)

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        import docker
        import requests

        try:
            yield
        except docker.errors.APIError as error:
            raise DockerRefused(what, self.address, str(error.explanation or error)) from None
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise DockerAway(what, self.address, f"{type(error).__name__}: {error}") from None


class _Streams:
    """Both streams of a container or an exec, read while it runs."""

    def __init__(
        self,
        pairs: CancellableStream[tuple[bytes | None, bytes | None]],
        write: Callable[[bytes], object] | None = None,
    ) -> None:
        self._parts: tuple[list[bytes], list[bytes]] = ([], [])
        self._write = write or self._parts[0].append
        # Of writing it; what reading fails of shows in the exit code.
        self.failure: OSError | None = None
        self._thread = threading.Thread(target=self._read, args=(pairs,), daemon=True)
        self._thread.start()

    def _read(self, pairs: CancellableStream[tuple[bytes | None, bytes | None]]) -> None:
        # The stream's own `close` leaves the response open, and the connection with it.
        with contextlib.suppress(OSError, ValueError), contextlib.closing(pairs._response):  # type: ignore[attr-defined] # noqa: SLF001
            for out, err in pairs:
                self._parts[1].append(err or b"")
                try:
                    self._write(out or b"")
                except OSError as error:
                    self.failure = error
                    return

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def text(self, number: int) -> str:
        return b"".join(self._parts[number]).decode("utf-8", "replace")


def split_reference(reference: str) -> tuple[str, str]:
    """`host:5000/a/b:tag` -> (`host:5000/a/b`, `tag`); a digest counts as a tag, and `latest` where there is none."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


def _count(layers: dict[str, tuple[int, int]], line: Mapping[str, Any]) -> None:
    detail = line.get("progressDetail") or {}
    name, status = str(line.get("id", "")), line.get("status")
    if status == "Downloading" and detail.get("total"):
        layers[name] = (int(detail.get("current", 0)), int(detail["total"]))
    elif status in ("Download complete", "Pull complete") and name in layers:
        layers[name] = (layers[name][1], layers[name][1])


def _container(seen: Mapping[str, Any]) -> ContainerLook:
    state, config = seen["State"], seen["Config"]
    ports, exposed = {}, {}
    for inside, bindings in (seen["HostConfig"].get("PortBindings") or {}).items():
        for binding in bindings or ():
            if str(binding.get("HostPort", "")).isdigit():
                ports[int(inside.split("/")[0])] = int(binding["HostPort"])
                # Every interface, where none is named.
                address = binding.get("HostIp") or "0.0.0.0"
                if not on_this_machine(address):
                    exposed[int(binding["HostPort"])] = address
    labels = config.get("Labels") or {}
    started = str(state.get("StartedAt", ""))
    return ContainerLook(
        id=seen["Id"], name=seen["Name"].lstrip("/"), service=labels.get(SERVICE, ""), state=state["Status"],
        exit_code=int(state.get("ExitCode", 0)), oom_killed=bool(state.get("OOMKilled")),
        restarts=int(seen.get("RestartCount", 0)), started_at="" if started.startswith("0001") else started,
        image=config.get("Image", ""), ports=ports,
        environment=dict(e.partition("=")[::2] for e in config.get("Env") or ()), labels=labels,
        network_mode=seen["HostConfig"].get("NetworkMode", ""), exposed=exposed,
        memory_limit=int(seen["HostConfig"].get("Memory") or 0) // 2**20,
    )  # fmt: skip
