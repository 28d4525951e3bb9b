"""What a report takes from files and containers: the ends of logs, whole texts for a bundle, and which texts are secret.

Foreign words are freed of control sequences first and masked then: a colour in the middle of a secret would hide it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from owlclaw_up import dotenv_text, logs
from owlclaw_up.errors import UpError
from owlclaw_up.facts.containers import log_containers
from owlclaw_up.host.machine import Host
from owlclaw_up.last_up import FILE
from owlclaw_up.project import Project
from owlclaw_up.receipts import STATE_DIR, Vault
from owlclaw_up.redaction import MASK, Redactor
from owlclaw_up.report_values import LogTail
from owlclaw_up.spec import ContainerEngine, StackSpec
from owlclaw_up.steps.compose_env import BRIDGE, compose_env

TAIL = 60
# Of each log, in a bundle.
_MOST_LINES = 20_000
_FILES = (*(name for names in logs.FILES.values() for name in names), "alembic.log")
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_TELLING = re.compile(r"token|secret|passw|api_?key|private_?key|credential", re.IGNORECASE)
_URL_LOGIN = re.compile(r"://([^\s:/@]*):([^\s]+)@")
_JSON_VALUE = re.compile(r'"((?:[^"\\]|\\.){6,})(?:"(?!\s*:)|$)')
_SHORTEST, _SHORTEST_IN_URL = 8, 6
# Passwords of nobody, which would mask ordinary words.
_WORDS = frozenset({"postgres", "password", "hatchet", "owlclaw", "changeme"})
_COMPOSE_SECONDS = 10.0


def clean(text: str) -> str:
    """A text without colours, cursor movements and other control characters; lines and tabs stay."""
    return _CONTROL.sub("", text)


def secret_texts(host: Host, root: Path, env_file: Path) -> Iterator[str]:
    """Secrets that an opened project does not know: of a damaged state, of the dotenv file, of the environment."""
    yield from _of_vault(_read(root / STATE_DIR / "secrets.json"))
    try:
        written = dotenv_text.values(_read(root / env_file).encode())
    except dotenv_text.DotenvError:
        written = {}
    for name, given in (*host.environ.items(), *written.items()):
        # As logs are read: bytes that are no text are replaced.
        value = given.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if _TELLING.search(name) and len(value) >= _SHORTEST and value not in _WORDS:
            yield value
        for user, password in _URL_LOGIN.findall(value):
            # A shorter one hides nothing where it stands alone, and would mask ordinary words; in a URL it is masked.
            if len(password) >= _SHORTEST_IN_URL and password not in (*_WORDS, user):
                yield from {password, unquote(password)}


def _of_vault(text: str) -> list[str]:
    try:
        known = {f.name for f in dataclasses.fields(Vault)}
        return [t for t in Vault(**{k: v for k, v in json.loads(text).items() if k in known}).texts() if type(t) is str]
    except (ValueError, TypeError, AttributeError, KeyError):
        # Cut off, or edited: every value that stands in it may be one.
        return [value for value in _JSON_VALUE.findall(text) if value not in _WORDS]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def tails(host: Host, root: Path, project: Project | None) -> tuple[LogTail, ...]:
    """The end of every log there is, of containers too."""
    found = []
    for name in _FILES:
        path = root / STATE_DIR / "logs" / name
        try:
            lines = host.files.tail(path, TAIL + 1)
            if path.exists():
                found.append(_tail(name, lines))
        except OSError as error:
            found.append(LogTail(name, (), why=os.strerror(error.errno or 0)))
    if project is not None:
        try:
            found += [
                _tail(f"container {c.name}", c.docker.logs(c.name, TAIL + 1)) for c in log_containers(project.ledger)
            ]
        except UpError as error:
            found.append(LogTail("containers", (), why=error.message))
    return tuple(found)


def _tail(name: str, lines: list[str]) -> LogTail:
    return LogTail(name, tuple(clean(line) for line in lines[-TAIL:]), len(lines) > TAIL)


def raw_texts(host: Host, root: Path, project: Project | None, spec: StackSpec | None) -> dict[str, str]:
    """The files behind a report, by their name in a bundle; still to be masked."""
    state = root / STATE_DIR
    texts = {"state.json": _read(state / "state.json"), FILE: _read(state / "logs" / FILE)}
    texts |= {f"logs/{name}": "\n".join(host.files.tail(state / "logs" / name, _MOST_LINES)) for name in _FILES}
    if project is not None:
        texts["env-keys.txt"] = _keys(root / project.settings.env_file.value)
        try:
            for container in log_containers(project.ledger):
                text = "\n".join(container.docker.logs(container.name, _MOST_LINES))
                texts[f"logs/container-{container.name}.log"] = text
        except UpError as error:
            texts["logs/containers.txt"] = error.message
        if spec is not None and spec.compose is not None:
            texts["compose.yml"] = _rendered(project, spec)
    return {name: clean(text) for name, text in texts.items() if text}


def _keys(path: Path) -> str:
    """The keys of the dotenv file; no value of it leaves this machine, whether it is a secret or not."""
    try:
        return "".join(f"{key}={MASK}\n" for key in dotenv_text.values(_read(path).encode()))
    except dotenv_text.DotenvError as error:
        return f"{path.name} cannot be read: {error.reason}\n"


def _rendered(project: Project, spec: StackSpec) -> str:
    """What compose makes of its file and our variables, every password in them a mask from the beginning."""
    compose, engine, ledger = spec.compose, spec.engine, project.ledger
    assert compose is not None
    assert isinstance(engine, ContainerEngine)
    network = str(ledger.recall("engine").get("network") or BRIDGE)
    masked = dict.fromkeys(ledger.vault.passwords, MASK)
    values: Mapping[str, str] = compose_env(spec, engine, masked, dict.fromkeys(ledger.vault.engine, MASK), network)
    ran = project.host.processes.run(
        [*compose.docker.compose.argv, "-p", compose.project, "-f", str(compose.file), "config"],
        env={**project.host.inherited, **{name: project.redact(value) for name, value in values.items()}},
        timeout=_COMPOSE_SECONDS,
    )  # fmt: skip
    return ran.stdout if ran.exit_code == 0 else f"# docker compose config failed\n{ran.stderr}"


def masked_json(text: str, redact: Redactor) -> str:
    """A JSON text with every text in it masked; one that is damaged is masked as it stands."""
    try:
        document = json.loads(text)
    except ValueError:
        return redact(text)
    return json.dumps(redact.within(document), indent=1, ensure_ascii=False) + "\n"
