"""A standing environment whose token can be spoiled in every way that there is: what the tests of tokens share."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from owlclaw_up import dotenv_text
from owlclaw_up.host.hatchet import HatchetEngine
from owlclaw_up.model import Secret
from owlclaw_up.token_claims import Claims, decode
from tests.conftest import Cli
from tests.ports import free_port

OTHER_TENANT = "11111111-2222-4333-8444-555555555555"


def claims_of(token: str) -> Claims:
    claims = decode(token)
    assert claims is not None
    return claims


@dataclass
class Stack:
    """A standing environment, and the ways to spoil its token."""

    cli: Cli
    engine: Path
    before: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self.cli.json("up", "--smoke", "none")
        self.before = self.env_path.read_bytes()

    @property
    def env_path(self) -> Path:
        return self.cli.root / ".env"

    def put(self, **values: str) -> None:
        """Put values into the dotenv file, as a user would."""
        self.env_path.write_bytes(dotenv_text.edit(self.env_path.read_bytes(), values))

    def use(self, token: str) -> None:
        self.put(HATCHET_CLIENT_TOKEN=token, HATCHET_API_TOKEN=token)

    def without(self, *keys: str) -> None:
        lines = self.env_path.read_text().splitlines(keepends=True)
        self.env_path.write_text("".join(line for line in lines if line.partition("=")[0] not in keys))

    def process(self, key: str) -> psutil.Process:
        return psutil.Process(self.cli.state["data"][key]["pid"])

    def mint(self, *arguments: str, **changes: str) -> str:
        """A token by the engine's own tool, with the running engine's environment."""
        env = self.process("engine").environ() | changes
        argv = [str(self.engine / "hatchet-admin"), "token", "create", *arguments]
        return subprocess.run(argv, env=env, cwd="/", check=True, capture_output=True, text=True).stdout.strip()

    def keysets(self) -> dict[str, str]:
        argv = [str(self.engine / "hatchet-admin"), "keyset", "create-local-keys"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        names = ("MASTER_KEYSET", "JWT_PRIVATE_KEYSET", "JWT_PUBLIC_KEYSET")
        return {f"SERVER_ENCRYPTION_{n}": v for n, v in zip(names, said[1:6:2], strict=True)}

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        port, password = self.cli.state["ports"]["postgres"], self.cli.secrets["passwords"]["postgres"]
        url = f"postgresql://postgres:{password}@127.0.0.1:{port}/hatchet"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return list(cursor.fetchall()) if cursor.description else []

    def id_of(self, token: str) -> str:
        return claims_of(token).token_id

    def forget_password(self, role: str) -> None:
        """Lose the password of a role from our secrets."""
        path = self.cli.root / ".owlclaw-up/secrets.json"
        kept = json.loads(path.read_text())
        del kept["passwords"][role]
        path.write_text(json.dumps(kept))

    def alive(self) -> set[str]:
        """Ids of the tokens of ours that are not revoked."""
        rows = self.sql("""select id::text from "APIToken" where name like 'owlclaw-up-%%' and not revoked""")
        return {row[0] for row in rows}

    def grpc(self, token: str) -> str:
        address = f"localhost:{self.cli.state['ports']['grpc']}"
        return HatchetEngine().grpc_version(address, Secret(token), 5.0).state


def expired(stack: Stack) -> None:
    token = stack.mint("-e", "1s")
    stack.use(token)
    time.sleep(max(0.0, claims_of(token).expires - time.time() + 0.1))


def of_another_tenant(stack: Stack) -> None:
    made = json.dumps({"id": OTHER_TENANT, "slug": "other"})
    stack.sql("""insert into "Tenant" select (jsonb_populate_record(t, %s::jsonb)).* from "Tenant" t
                 where slug = 'default' on conflict do nothing""", made)  # fmt: skip
    stack.use(stack.mint("--tenant-id", OTHER_TENANT))


def forgotten(stack: Stack) -> None:
    token = stack.mint()
    stack.use(token)
    assert stack.grpc(token) == "ok"
    stack.sql('delete from "APIToken" where id = %s', claims_of(token).token_id)


def revoked(stack: Stack) -> None:
    token = stack.mint()
    stack.use(token)
    stack.sql('update "APIToken" set revoked = true where id = %s', claims_of(token).token_id)


def without_a_port(stack: Stack) -> None:
    stack.use(stack.mint(SERVER_GRPC_BROADCAST_ADDRESS=f"localhost:{free_port()}"))
    stack.without("HATCHET_CLIENT_HOST_PORT")
