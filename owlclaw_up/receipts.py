"""What owlclaw-up made and remembers: `state.json`, `secrets.json`, the lock. Intent before effect, completion after.

`down` removes only what a receipt names. A receipt whose intent was written and whose completion was not (a crash, a
Ctrl-C) still counts: the thing may exist.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import secrets as entropy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from owlclaw_up import __version__
from owlclaw_up.errors import LockHeld, ProjectNotWritable, StateUnusable, UpError
from owlclaw_up.host.base import Clock, Files, ProcessId
from owlclaw_up.model import Mode, Secret

STATE_DIR = ".owlclaw-up"
SCHEMA = 1
_PASSWORD_BYTES = 18
_LOCK = "lock"
# Who has the lock, in words.
HOLDER = "lock.holder"
_LOCK_POLL = 0.1


@dataclass(frozen=True)
class Receipt:
    """Proof that we created something.

    Attributes:
        kind: `role`, `database`, `extension`, `directory`, `process`, `env-file`, ...
        identity: what tells it from every other of its kind.
        done: False while only the intent is on record.
    """

    kind: str
    identity: Mapping[str, Any]
    run: str
    at: str
    done: bool = False


@dataclass
class State:
    """`state.json`: free of secrets. `data` groups what steps remember, by their own key."""

    mode: str | None = None
    ports: dict[str, int] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)


@dataclass
class Vault:
    """`secrets.json`: passwords by role, keysets and cookie secrets, the token, values of `.env` before our first edit.

    Attributes:
        superseded: tokens of ours that a newer one has taken the place of, and that are still to be revoked.
        env_originals: the dotenv file of the last run as it was; under `others` those of earlier runs.
    """

    passwords: dict[str, str] = field(default_factory=dict)
    engine: dict[str, str] = field(default_factory=dict)
    token: str = ""
    superseded: list[str] = field(default_factory=list)
    admin_url: str = ""
    env_originals: dict[str, Any] = field(default_factory=dict)

    def originals(self) -> list[dict[str, Any]]:
        """What every dotenv file that we wrote was before, the last one first."""
        if not self.env_originals:
            return []
        this = {k: v for k, v in self.env_originals.items() if k != "others"}
        return [this, *self.env_originals.get("others", ())]

    def texts(self) -> list[str]:
        """Every secret text, for redaction; a password that is its role's name hides nothing, and would mask every text."""
        originals = [v for file in self.originals() for v in file["values"].values() if v]
        passwords = [password for role, password in self.passwords.items() if password != role]
        return [*passwords, *self.engine.values(), self.token, *self.superseded, self.admin_url, *originals]


def new_password() -> Secret:
    """24 characters of [A-Za-z0-9_-]: safe in URLs, shells and dotenv files; strong enough for Hatchet's own rule."""
    while True:
        text = entropy.token_urlsafe(_PASSWORD_BYTES)
        strong = any(c.islower() for c in text) and any(c.isupper() for c in text) and any(c.isdigit() for c in text)
        if strong and text[0].isalnum():
            return Secret(text)


def now_text(clock: Clock) -> str:
    """The clock's time as ISO 8601 in UTC."""
    return datetime.datetime.fromtimestamp(clock.now(), datetime.timezone.utc).isoformat(timespec="seconds")


class Ledger:
    """State and secrets of one project, read once and written at every change.

    Args:
        project: the project directory.

    Attributes:
        unsaved: the roles whose passwords were made and are in no file yet.

    Raises:
        StateUnusable: a file is damaged, of a newer version, or belongs to another user.
    """

    def __init__(self, project: Path, files: Files, clock: Clock) -> None:
        self.project = project
        self.directory = project / STATE_DIR
        self.files = files
        self.clock = clock
        self.run = entropy.token_hex(4)
        self.state, self.vault = State(), Vault()
        self._read = False
        self.unsaved: set[str] = set()
        self.load()

    @property
    def state_path(self) -> Path:
        return self.directory / "state.json"

    @property
    def secrets_path(self) -> Path:
        return self.directory / "secrets.json"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def exists(self) -> bool:
        return self.files.exists(self.state_path)

    @property
    def blank(self) -> bool:
        """Whether the state directory holds no more than every command makes there before it begins."""
        return {path.name for path in self.directory.iterdir()} <= {".gitignore", "logs", _LOCK, HOLDER}

    def load(self) -> None:
        """Read both files again; another command may have written them while this one waited for the lock."""
        _check_owner(self.directory)
        self.unsaved.clear()
        state = self._document(self.state_path)
        if state is None and self._read:
            # The other command was a purge: nothing that was read before counts any more.
            self.state, self.vault = State(), Vault()
        self._read = state is not None
        if state is not None:
            schema = state.get("schema")
            if not isinstance(schema, int) or schema > SCHEMA:
                raise StateUnusable(
                    self.state_path,
                    f"was written by another version of owlclaw-up (schema {schema!r}, this one knows {SCHEMA})",
                    hint="run that version, or bring this one up to date: pip install -U owlclaw-up",
                )
            try:
                self.state = State(
                    None if state["mode"] is None else Mode(state["mode"]).value,
                    {str(k): int(v) for k, v in state["ports"].items()},
                    {str(k): dict(v) for k, v in state["data"].items()},
                    [Receipt(**r) for r in state["receipts"]],
                )
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._damaged(self.state_path, repr(error)) from None
        vault = self._document(self.secrets_path)
        if state is not None and vault is None:
            raise StateUnusable(
                self.secrets_path,
                "is missing, and what state.json names cannot be used without it",
                hint=self._ways_out(),
            )
        if vault is not None:
            known = {f.name for f in dataclasses.fields(Vault)}
            try:
                self.vault = Vault(**{k: v for k, v in vault.items() if k in known})
                if not all(isinstance(text, str) for text in self.vault.texts()):
                    raise TypeError
            except (TypeError, AttributeError, KeyError):
                # The error's own words could hold a secret.
                raise self._damaged(self.secrets_path, "an entry has another form than expected") from None

    def save(self) -> None:
        """Write `state.json`."""
        document = {
            "schema": SCHEMA,
            "version": __version__,
            "project": str(self.project),
            "updated_at": now_text(self.clock),
            **dataclasses.asdict(self.state),
        }
        self._write(self.state_path, document)

    def save_secrets(self) -> None:
        self._write(self.secrets_path, dataclasses.asdict(self.vault))
        self.unsaved.clear()

    def password(self, role: str) -> Secret:
        """The kept password of a role, made now if there is none. Saved with the next `save_secrets`."""
        if role not in self.vault.passwords:
            self.vault.passwords[role] = new_password().reveal()
            self.unsaved.add(role)
        return Secret(self.vault.passwords[role])

    def prepare(self) -> None:
        """Make the state directory, 0700, with a `.gitignore` of its own.

        Raises:
            ProjectNotWritable: the project directory does not let us.
        """
        try:
            self.files.make_dir(self.directory)
            self.files.make_dir(self.logs)
            if not self.files.exists(self.directory / ".gitignore"):
                self.files.write_private(self.directory / ".gitignore", b"*\n")
        except OSError as error:
            raise ProjectNotWritable(self.project, os.strerror(error.errno or 0)) from None

    @contextlib.contextmanager
    def creating(self, kind: str, **identity: Any) -> Iterator[None]:
        """Record that something is about to be made, and then that it was.

        A refusal (any `UpError`) takes the intent back: nothing was made. Anything harder leaves it on record.
        """
        intent = Receipt(kind, identity, self.run, now_text(self.clock))
        self._replace(intent)
        try:
            yield
        except UpError:
            self.forget(kind, **identity)
            raise
        self._replace(dataclasses.replace(intent, done=True))

    def intend(self, kind: str, **identity: Any) -> None:
        """Record that something is about to be made; `creating`, or `record`, says later that it was."""
        self._replace(Receipt(kind, identity, self.run, now_text(self.clock)))

    def record(self, kind: str, **identity: Any) -> None:
        """Record something that is made already."""
        self._replace(Receipt(kind, identity, self.run, now_text(self.clock), True))

    def forget(self, kind: str, **identity: Any) -> None:
        """Drop the receipts of a kind that carry this identity."""
        self.state.receipts = [r for r in self.state.receipts if r.kind != kind or not _matches(r.identity, identity)]
        self.save()

    def receipts(self, kind: str, **identity: Any) -> list[Receipt]:
        return [r for r in self.state.receipts if r.kind == kind and _matches(r.identity, identity)]

    def remember(self, key: str, **values: Any) -> None:
        """Keep values of a step under its key, and save."""
        self.keep(key, **values)
        self.save()

    def keep(self, key: str, **values: Any) -> None:
        """Keep values of a step; they are saved together with the receipt that completes it."""
        self.state.data.setdefault(key, {}).update(values)

    def recall(self, key: str) -> dict[str, Any]:
        return self.state.data.get(key, {})

    def process(self, key: str) -> ProcessId | None:
        """The process that a step remembered."""
        kept = self.recall(key)
        return ProcessId(kept["pid"], kept["started"]) if kept.get("pid") else None

    def _replace(self, receipt: Receipt) -> None:
        kept = [
            r
            for r in self.state.receipts
            if not (r.kind == receipt.kind and dict(r.identity) == dict(receipt.identity))
        ]
        self.state.receipts = [*kept, receipt]
        self.save()

    def _document(self, path: Path) -> dict[str, Any] | None:
        try:
            data = self.files.read(path)
        except PermissionError:
            raise StateUnusable(path, "cannot be read by this user", hint=f"ls -l {path}") from None
        except OSError as error:
            raise StateUnusable(
                path, f"cannot be read: {os.strerror(error.errno or 0)}", hint=f"ls -l {path}"
            ) from None
        if data is None:
            return None
        try:
            document = json.loads(data)
        except ValueError as error:
            raise self._damaged(path, type(error).__name__) from None
        if not isinstance(document, dict):
            raise self._damaged(path, "no JSON object")
        return document

    def _damaged(self, path: Path, why: str) -> StateUnusable:
        return StateUnusable(
            path,
            "is damaged (cut off, or edited by hand)",
            hint=self._ways_out(),
            detail=why,
        )

    def _ways_out(self) -> str:
        aside = f"mv {self.directory} {self.directory}.damaged"
        return f"restore it from a backup; or start anew, with what it named left as it is: {aside}"

    def _write(self, path: Path, document: Mapping[str, Any]) -> None:
        self.files.write_private(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def _matches(identity: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(identity.get(key) == value for key, value in wanted.items())


def _check_owner(directory: Path) -> None:
    """The state directory of another user is theirs: as root we would leave files that they cannot read."""
    if sys.platform == "win32" or not directory.exists():
        return
    owner, me = directory.stat().st_uid, os.geteuid()
    if owner != me:
        import pwd

        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"uid {owner}"
        raise StateUnusable(
            directory,
            f"belongs to {name}, and this is {'root' if me == 0 else f'uid {me}'}",
            hint=f"run it as {name}, or use a checkout of your own",
        )


@contextlib.contextmanager
def project_lock(ledger: Ledger, command: str, timeout: float, waiting: Any) -> Iterator[None]:
    """One `owlclaw-up` at a time changes a project; a second one waits, saying for whom.

    Args:
        command: what this one does, for the other's message.
        timeout: seconds to wait.
        waiting: called once with a text when there is somebody to wait for.

    Raises:
        LockHeld: the other one did not end in time.
    """
    import filelock

    holder_path = ledger.directory / HOLDER
    lock = filelock.FileLock(ledger.directory / _LOCK, mode=0o600)
    begun = ledger.clock.monotonic()
    holder = ""
    ledger.prepare()
    while True:
        try:
            if not ledger.directory.exists():
                ledger.prepare()
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if not holder:
                holder = (ledger.files.read(holder_path) or b"an unknown process").decode("utf-8", "replace").strip()
                waiting(f"waiting for another owlclaw-up in this project: {holder}")
            if ledger.clock.monotonic() - begun >= timeout:
                raise LockHeld(holder, ledger.clock.monotonic() - begun) from None
        except FileNotFoundError:
            # The other one is a purge, which takes the folder and the lock in it away.
            continue
        except OSError as error:
            raise ProjectNotWritable(ledger.directory, os.strerror(error.errno or 0)) from None
        else:
            if ledger.files.exists(Path(lock.lock_file)):
                break
            lock.release()
            continue
        ledger.clock.sleep(_LOCK_POLL)
    try:
        text = f"owlclaw-up {command}, pid {os.getpid()}, since {now_text(ledger.clock)}"
        if ledger.directory.exists():
            ledger.files.write_private(holder_path, text.encode())
        ledger.load()
        yield
    finally:
        if ledger.directory.exists():
            ledger.files.remove(holder_path)
        lock.release()
