"""The config folder: `server.yaml` and `database.yaml`, which ``quickstart`` writes and ``--config`` names.

Of the real files' hundreds of values these hold the four that ``quickstart`` makes, in the same places.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from .tokens import create_keysets

MASTER = "SERVER_ENCRYPTION_MASTER_KEYSET"
PRIVATE = "SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET"
PUBLIC = "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET"
COOKIES = "SERVER_AUTH_COOKIE_SECRETS"
# The variable and where the real file has its value.
_LEAVES = {COOKIES: "secrets", PRIVATE: "privateJWTKeyset", PUBLIC: "publicJWTKeyset", MASTER: "masterKeyset"}
_SERVER = """auth:
  cookie:
    secrets: {SERVER_AUTH_COOKIE_SECRETS}
encryption:
  jwt:
    privateJWTKeyset: {SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET}
    publicJWTKeyset: {SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET}
  masterKeyset: {SERVER_ENCRYPTION_MASTER_KEYSET}
"""
# What DATABASE_URL says is not in the real file either, only the defaults that it overrides.
_DATABASE = """dbName: hatchet
host: 127.0.0.1
password: hatchet
port: 5431
sslMode: disable
username: hatchet
"""


def read(folder: Path) -> dict[str, str]:
    """Give the values by their variables: the environment's, else those of the folder's files."""
    file = folder / "server.yaml"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = {name: re.search(rf"^ +{leaf}: (\S.*)$", text, re.MULTILINE) for name, leaf in _LEAVES.items()}
    values = {name: match[1].strip() for name, match in found.items() if match}
    return values | {name: os.environ[name] for name in _LEAVES if os.environ.get(name)}


def adopt(arguments: list[str]) -> None:
    """Take what the folder of ``--config`` says into the environment, which is what everything else reads."""
    words = iter(arguments)
    for word in words:
        name, has_value, value = word.partition("=")
        if name == "--config":
            os.environ.update(read(Path(value if has_value else next(words, ""))))


def make_keys(folder: Path, *, overwrite: bool) -> dict[str, str]:
    """Give cookie secrets and keysets: the environment's, else the folder's, else new ones.

    Each half is made without a look at the other, as the real one does: an environment with a master keyset only ends
    with a pair of another master.
    """
    values = read(folder)
    master, private, public, _ = create_keysets()
    if overwrite or not values.get(COOKIES):
        values[COOKIES] = f"{secrets.token_hex(8)} {secrets.token_hex(8)}"
    if overwrite or not values.get(MASTER):
        values[MASTER] = master
    if overwrite or not (values.get(PRIVATE) and values.get(PUBLIC)):
        values |= {PRIVATE: private, PUBLIC: public}
    return values


def write(folder: Path, values: dict[str, str]) -> None:
    """Write both files, for their owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    complete = dict.fromkeys(_LEAVES, "") | values
    for name, text in (("database.yaml", _DATABASE), ("server.yaml", _SERVER.format_map(complete))):
        file = folder / name
        file.touch(0o600)
        file.write_text(text, encoding="utf-8")
