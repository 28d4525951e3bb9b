"""The dotenv file: our keys in, everything else byte for byte as it was; and the way back."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from owlclaw_up import dotenv_text
from owlclaw_up.errors import ApplyFailed, EnvFileRefused
from owlclaw_up.facts import Facts
from owlclaw_up.facts.dotenv import BACKUP_SUFFIX
from owlclaw_up.host.base import ServerLogin, Tls
from owlclaw_up.host.postgres_url import asyncpg_url
from owlclaw_up.model import Action, Change, Finding, found, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.setting_values import REMOTE_KEYS
from owlclaw_up.spec import TENANT_ID, StackSpec
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.token_claims import placeholder

HEADER = """\
# Written by owlclaw-up, which keeps these keys up to date. HATCHET_SERVER_URL is REST and dashboard;
# gRPC has a port of its own (HATCHET_GRPC_HOST_PORT): the gRPC port answers no REST call.
"""
# What group and others may do with a file.
OTHERS = 0o077
SECRET_KEYS = frozenset({"HATCHET_API_TOKEN", "HATCHET_CLIENT_TOKEN", "DATABASE_URL", "OWLCLAW_DATABASE_URL"})


def env_values(spec: StackSpec, token: str) -> dict[str, str]:
    """Every key for the dotenv file, under the names the user wants.

    Args:
        token: the API token; empty in mock, where a placeholder lets hatchet-sdk be constructed and HATCHET_API_TOKEN
            stays out, so that test suites which skip without a server still skip.
    """
    login = spec.login(spec.application)
    # Applications resolve localhost for themselves.
    host = "localhost" if login.host == "127.0.0.1" else login.host
    database = asyncpg_url(dataclasses.replace(login, host=host)).reveal()
    rest, strategy = spec.server_url, spec.tls.strategy if spec.tls else "none"
    tenant = spec.engine.tenant if spec.engine else TENANT_ID
    values = {}
    if token:
        values["HATCHET_API_TOKEN"] = token
    values |= {
        "HATCHET_SERVER_URL": rest
        if spec.server_url_is == "rest"
        else f"http{'s' if spec.tls else ''}://{spec.grpc_address}",
        "HATCHET_GRPC_HOST_PORT": spec.grpc_address,
        "HATCHET_GRPC_TLS_STRATEGY": strategy,
        "HATCHET_CLIENT_TOKEN": token or placeholder(tenant, rest, spec.grpc_address),
        "HATCHET_CLIENT_HOST_PORT": spec.grpc_address,
        "HATCHET_CLIENT_SERVER_URL": rest,
        "HATCHET_CLIENT_TLS_STRATEGY": strategy,
        "HATCHET_CLIENT_TENANT_ID": tenant,
        "DATABASE_URL": database,
        "OWLCLAW_DATABASE_URL": database,
        "OWLCLAW_PG_PORT": str(spec.ports.postgres),
        **_of_remote(spec, login),
    }
    return {spec.env_names.get(key, key): value for key, value in values.items()}


def _of_remote(spec: StackSpec, login: ServerLogin) -> dict[str, str]:
    """`REMOTE_KEYS`, as far as they say something. asyncpg has no other way to be told a root certificate."""
    if spec.remote is None:
        return {}
    tls = spec.tls or Tls()
    said = {
        "HATCHET_CLIENT_TLS_ROOT_CA_FILE": spec.remote.root_ca,
        "HATCHET_CLIENT_TLS_SERVER_NAME": tls.server_name,
        "HATCHET_CLIENT_TLS_CERT_FILE": tls.certificate,
        "HATCHET_CLIENT_TLS_KEY_FILE": tls.key,
        "PGSSLROOTCERT": dict(login.options).get("sslrootcert", ""),
    }
    return {key: value for key, value in said.items() if value}


def _not_editable(path: Path, error: dotenv_text.DotenvError) -> EnvFileRefused:
    where = f" (line {error.line})" if error.line else ""
    return EnvFileRefused(path, f"{error.reason}{where}", f"mend that line in {path}")


def not_ignored(path: Path) -> Finding:
    """What to say of a dotenv file that git would take into a commit."""
    command = f"echo {shlex.quote(path.name)} >> .gitignore"
    return Finding("env.ignored", "warn", f"git does not ignore {path.name}, which holds secrets", "", command, command)


class WriteDotenv:
    """Edit the dotenv file in place; the file before the first edit is kept once beside it."""

    id = "env_file"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        self.spec, self.ledger = spec, ledger
        self._token = ledger.vault.token

    @property
    def title(self) -> str:
        return self.spec.env_path.name

    def outdated(self) -> bool:
        return self.ledger.vault.token != self._token

    @property
    def _api_token_key(self) -> str:
        return self.spec.env_names.get("HATCHET_API_TOKEN", "HATCHET_API_TOKEN")

    @property
    def _optional_keys(self) -> list[str]:
        """Keys that are there in some modes only. Those of `remote` are the user's own until it has written them."""
        return [self._api_token_key, *(self.spec.env_names.get(key, key) for key in REMOTE_KEYS)]

    def _values(self) -> dict[str, str]:
        return env_values(self.spec, self.ledger.vault.token if self.spec.engine else "")

    def _count(self) -> int:
        """Keys that there will be: the token is one, though it is made later."""
        return len(env_values(self.spec, "later" if self.spec.engine else ""))

    def _edited(self, data: bytes) -> bytes:
        path = str(self.spec.env_path)
        originals = next((o for o in self.ledger.vault.originals() if o["path"] == path), {})
        shape = dotenv_text.Shape(**originals.get("shape", {}))
        values = self._values()
        written, own = dotenv_text.values(data), originals.get("values", {})
        removals = []
        for key in self._optional_keys:
            if key in values:
                continue
            if written.get(key) and own.get(key, "" if key == self._api_token_key else None) is not None:
                # A line of the user's own that held a value of ours: it stays, with nothing in it.
                values[key] = ""
            else:
                removals.append(key)
        return dotenv_text.edit(data, values, removals=removals, header=HEADER, shape=shape)

    def check(self, facts: Facts) -> Change:
        path = self.spec.env_path
        look = found(facts.dotenv)
        if look is None or look.kind == "missing":
            return Change(Action.CREATE, f"{path.name}, 0600, {self._count()} keys", touches=(str(path),))
        if self.spec.engine and not self.ledger.vault.token:
            return Change(Action.UPDATE, f"{self._count()} keys of {path.name}", touches=(str(path),))
        wanted = self._values()
        differ = [k for k, v in wanted.items() if look.values.get(k) != v]
        try:
            edited = self._edited(look.data)
        except dotenv_text.DotenvError as error:
            raise _not_editable(path, error) from None
        if edited == look.data and look.mode & OTHERS == 0:
            return unchanged(f"{path.name} has every key")
        what = ", ".join(differ) if differ else "rights 0600"
        return Change(Action.UPDATE, f"{path.name}: {what}", touches=(str(path),))

    def apply(self, run: Run) -> Applied:
        path, ledger, files = self.spec.env_path, self.ledger, run.host.files
        try:
            before = files.read(path)
            mode = path.stat().st_mode & 0o777 if before is not None else None
            data = before or b""
            self._remember_originals(path, before, mode)
            after = self._edited(data)
            if after == before and mode == 0o600:
                return Applied(Action.UNCHANGED, f"{path.name} has every key")
            backup = path.with_name(path.name + BACKUP_SUFFIX)
            if before is not None and not backup.exists() and not self._is_ours(path, before):
                with ledger.creating("env-backup", path=str(backup)):
                    files.write_private(backup, before)
            with ledger.creating("env-file", path=str(path)):
                files.write_private(path, after)
        except dotenv_text.DotenvError as error:
            raise _not_editable(path, error) from None
        except OSError as error:
            raise ApplyFailed(
                "env-file",
                f"{path} could not be written: {os.strerror(error.errno or 0)}",
                hint=f"ls -ld {path.parent} {path}; df -h {path.parent}",
            ) from None
        self._warn_unignored(run)
        return Applied(
            Action.CREATE if before is None else Action.UPDATE, f"{path.name}, {len(self._values())} keys, 0600"
        )

    def _is_ours(self, path: Path, data: bytes) -> bool:
        """Whether we wrote it already: a copy would hold our secrets, and nothing from before us."""
        now, wanted = dotenv_text.values(data), self._values()
        keys = [self.spec.env_names.get(key, key) for key in SECRET_KEYS]
        return bool(self.ledger.receipts("env-file", path=str(path))) and any(
            key in wanted and now.get(key) == wanted[key] for key in keys
        )

    def _remember_originals(self, path: Path, before: bytes | None, mode: int | None) -> None:
        """What the file was before our first edit, for the way back; keys of later versions are added to it."""
        vault = self.ledger.vault
        data = before or b""
        if vault.env_originals.get("path") != str(path):
            every = vault.originals()
            this = next((o for o in every if o["path"] == str(path)), None) or {
                "path": str(path),
                "existed": before is not None,
                "mode": mode,
                "shape": dataclasses.asdict(dotenv_text.shape(data, HEADER)),
                "values": {},
            }
            # Files that were written before stay on record: a purge gives every one of them back.
            vault.env_originals = {**this, "others": [o for o in every if o["path"] != str(path)]}
            self.ledger.save_secrets()
        known = vault.env_originals["values"]
        keys = [k for k in (*self._values(), self._api_token_key) if k not in known]
        if keys:
            known.update(dotenv_text.raw_values(data, keys))
            self.ledger.save_secrets()

    def _warn_unignored(self, run: Run) -> None:
        from owlclaw_up.facts.dotenv import look_at_dotenv

        look = look_at_dotenv(run.host, self.spec.env_path)
        if look.ignored is False:
            run.findings.append(not_ignored(self.spec.env_path))


class CloseDotenv:
    """Keep everybody but its owner out of the dotenv file."""

    id = "env_file.rights"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def title(self) -> str:
        return f"Rights of {self.path.name}"

    def check(self, facts: Facts) -> Change:
        look = found(facts.dotenv)
        if look is None or look.kind != "file" or not look.mode & OTHERS:
            return unchanged("closed already")
        return Change(Action.UPDATE, f"{look.mode:04o} -> 0600", touches=(str(self.path),))

    def apply(self, run: Run) -> Applied:
        try:
            self.path.chmod(0o600)
        except OSError as error:
            raise ApplyFailed(
                "env-file", f"the rights of {self.path} could not be set: {os.strerror(error.errno or 0)}",
                hint=f"ls -l {self.path}",
            ) from None  # fmt: skip
        return Applied(Action.UPDATE, "0600")


class RestoreDotenv:
    """Take our keys out of the dotenv file; what the user had, and what they added since, stays."""

    id = "env_file"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @property
    def title(self) -> str:
        path = self.ledger.vault.env_originals.get("path")
        return Path(path).name if path else ".env"

    def check(self, facts: Facts) -> Change:
        paths = self._paths()
        if not paths:
            return unchanged("nothing of ours in it")
        names = ", ".join(Path(path).name for path in paths)
        return Change(Action.REMOVE, f"our keys in {names}", touches=tuple(paths))

    def _paths(self) -> list[str]:
        """The files that we wrote, as far as it is known what they were before."""
        paths = [str(o["path"]) for o in self.ledger.vault.originals()]
        return [path for path in paths if self.ledger.receipts("env-file", path=path)]

    def apply(self, run: Run) -> Applied:
        wanted = self._paths()
        every = [o for o in self.ledger.vault.originals() if o["path"] in wanted]
        for originals in every:
            self._restore(run, originals)
        for receipt in self.ledger.receipts("env-backup"):
            run.host.files.remove(Path(receipt.identity["path"]))
        self.ledger.forget("env-file")
        self.ledger.forget("env-backup")
        return Applied(Action.REMOVE, "as it was" if any(o["existed"] for o in every) else "removed")

    def _restore(self, run: Run, originals: Mapping[str, Any]) -> None:
        files, path = run.host.files, Path(originals["path"])
        data = files.read(path)
        if data is not None:
            shape = dotenv_text.Shape(**originals["shape"])
            try:
                restored = dotenv_text.restore(data, originals["values"], header=HEADER, shape=shape)
            except dotenv_text.DotenvError as error:
                raise EnvFileRefused(path, error.reason, f"mend {path}, then: owlclaw-up down --purge") from None
            if not restored and not originals["existed"]:
                files.remove(path)
            else:
                files.write_private(path, restored)
                path.chmod(originals["mode"] or 0o600)
