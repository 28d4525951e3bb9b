"""The stand-in for ``hatchet-admin``: keysets, the seed and API tokens, with the real one's texts and exit codes."""

from __future__ import annotations

import os
import re
import sys
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from . import config_folder
from .errors import ConfigurationError
from .golang import DurationError, flag_error, log, parse_duration
from .misbehave import fault, fault_text
from .passwords import hash_password
from .tokens import DEFAULT_TENANT, create_keysets

if TYPE_CHECKING:
    import psycopg

DEFAULT_LIFETIME = "2160h"
_GLOBAL = """Global Flags:
      --config string   The path the config folder.
      --version         print version and exit.
"""
_ROOT_HELP = """hatchet-admin performs administrative tasks for a Hatchet instance.

Usage:
  hatchet-admin [flags]
  hatchet-admin [command]

Available Commands:
  completion   Generate the autocompletion script for the specified shell
  help         Help about any command
  k8s          Commands used to setup a Hatchet instance on Kubernetes
  keyset       command for managing keysets.
  quickstart   Command used to setup a Hatchet instance
  seed         seed create initial data in the database.
  seed-cypress seed-cypress create initial data in the database for cypress.
  token        command for generating tokens.

Flags:
      --config string   The path the config folder.
  -h, --help            help for hatchet-admin
      --version         print version and exit.

Use "hatchet-admin [command] --help" for more information about a command.
"""
_TOKEN_USAGE = f"""Usage:
  hatchet-admin token create [flags]

Flags:
  -e, --expiresIn duration   Expiration duration for the API token (default 2160h0m0s)
  -h, --help                 help for create
      --name string          the name of the token (default "default")
      --tenant-id string     the tenant ID to associate with the token

{_GLOBAL}"""
_SEED_USAGE = f"""Usage:
  hatchet-admin seed [flags]

Flags:
  -h, --help   help for seed

{_GLOBAL}"""
_QUICKSTART_USAGE = f"""Usage:
  hatchet-admin quickstart [flags]

Flags:
      --cert-dir string               path to the directory where certificates should be stored (default "./certs")
      --generated-config-dir string   path to the directory where the generated config should be written (default "./generated")
  -h, --help                          help for quickstart
      --overwrite                     whether generated files should be overwritten, if they exist (default true)
      --skip stringArray              a list of steps to skip. possible values are "certs", "keys", or "seed"

{_GLOBAL}"""
_KEYSET_USAGE = """Usage:
  hatchet-admin keyset create-local-keys [flags]

Flags:
  -h, --help   help for create-local-keys

Global Flags:
      --config string    The path the config folder.
      --key-dir string   if storing keys on disk, path to the directory where encryption keys should be stored
      --version          print version and exit.
"""


class _FlagError(Exception):
    """A flag that is not known or not readable; the text is cobra's."""


def _flags(words: list[str], known: dict[str, str]) -> dict[str, str]:
    """Read flags with values; ``known`` maps every spelling to one name."""
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        if name in ("-h", "--help"):
            found["help"] = "yes"
        elif name in known:
            given = value if has_value else next(rest, None)
            if given is None:
                raise _FlagError(f"flag needs an argument: {name}")
            found[known[name]] = given
        elif name.startswith("-"):
            raise _FlagError(f"unknown flag: {name}")
    return found


def _create_keys(directory: str | None) -> int:
    failing = "Fatal: could not run [keyset create-local-keys] command: "
    if fault("admin.keyset-fails"):
        log(failing + fault_text("could not create local keys: no entropy"))
        return 1
    keysets = create_keysets()
    if directory is None:
        labels = (
            "Master Key Bytes",
            "Private EC256 Keyset",
            "Public EC256 Keyset",
            "Insecure Public Handle EC256 Keyset",
        )
        for label, keyset in zip(labels, keysets, strict=True):
            print(f"{label}:\n{keyset}")
        return 0
    names = ("master.key", "private_ec256.key", "public_ec256.key", "public_handle_unencrypted_ec256.key")
    for name, keyset in zip(names, keysets, strict=True):
        path = Path(directory) / name
        try:
            path.touch(0o600)
            path.write_text(keyset, encoding="utf-8")
        except OSError as error:
            log(f"{failing}open {path}: {(error.strerror or str(error)).lower()}")
            return 1
    return 0


class _SeedError(Exception):
    """The seed failed; the text is what the real programs say after their own words."""


def _run_seed() -> None:
    from . import database

    with database.connect(database.read_dsn()) as connection:
        password = os.environ.get("ADMIN_PASSWORD") or "Admin123!!"
        strong = all(re.search(pattern, password) for pattern in ("[A-Z]", "[a-z]", r"\d"))
        if not database.is_migrated(connection):
            raise _SeedError(database.NOT_MIGRATED)
        if not (8 <= len(password) <= 64 and strong):
            raise _SeedError(
                "ADMIN_PASSWORD does not meet requirements: must be between 8 and 64 characters and contain "
                "at least one uppercase letter, one lowercase letter, and one number"
            )
        if fault("seed.fails"):
            raise _SeedError(fault_text("could not create tenant: ERROR: deadlock detected (SQLSTATE 40P01)"))
        _insert_seed(connection, password)


def _panic(error: ConfigurationError) -> int:
    """What the real seed does, by whichever command, when there is no database: it does not hand the error up."""
    print(f"panic: {error}\n\ngoroutine 1 [running]:", file=sys.stderr)
    return 2


def _seed() -> int:
    try:
        _run_seed()
    except ConfigurationError as error:
        return _panic(error)
    except _SeedError as error:
        log(f"Fatal: could not run seed command: {error}")
        return 1
    return 0


def _quickstart_command(words: list[str]) -> int:
    # May be given more than once.
    skipped = {value for flag, value in pairwise(words) if flag == "--skip"}
    skipped |= {word.partition("=")[2] for word in words if word.startswith("--skip=")}
    # True without a value; a value stands behind an equals sign only.
    overwrite = not {"--overwrite=false", "--overwrite=f", "--overwrite=0"} & set(words)
    rest = [word for word in words if word.partition("=")[0] != "--overwrite"]
    known = {"--skip": "skip", "--cert-dir": "certs", "--generated-config-dir": "folder", "--config": "config"}
    try:
        flags = _flags(rest, known)
    except _FlagError as error:
        return flag_error(str(error), _QUICKSTART_USAGE)
    if "help" in flags:
        print(f"Command used to setup a Hatchet instance\n\n{_QUICKSTART_USAGE}", end="")
        return 0
    if "certs" not in skipped:
        print("Error running [quickstart]:could not setup certs: the stand-in makes none, so --skip certs")
        return 1
    folder = Path(flags.get("folder", "./generated"))
    values = config_folder.read(folder)
    if "keys" not in skipped:
        print("Generating encryption keys for Hatchet server")
        values = config_folder.make_keys(folder, overwrite=overwrite)
    print(f"Generating config files {flags.get('folder', './generated')}", flush=True)
    config_folder.write(folder, values)
    if "seed" in skipped:
        return 0
    try:
        _run_seed()
    except ConfigurationError as error:
        return _panic(error)
    except _SeedError as error:
        print(f"Error running [quickstart]:could not run seed: {error}")
        return 1
    return 0


def _insert_seed(connection: psycopg.Connection[tuple[Any, ...]], password: str) -> None:
    """Insert what is absent; what is there stays as it is, whatever the environment says now."""
    email = os.environ.get("ADMIN_EMAIL") or "admin@example.com"
    row = connection.execute('SELECT id FROM "User" WHERE email = %s', (email,)).fetchone()
    user = row[0] if row else uuid4()
    if row is None:
        connection.execute(
            'INSERT INTO "User" (id, email, "emailVerified", name) VALUES (%s, %s, true, %s)',
            (user, email, os.environ.get("ADMIN_NAME") or "Admin"),
        )
        connection.execute(
            'INSERT INTO "UserPassword" (hash, "userId") VALUES (%s, %s)', (hash_password(password), user)
        )
    slug = os.environ.get("DEFAULT_TENANT_SLUG") or "default"
    if connection.execute('SELECT 1 FROM "Tenant" WHERE slug = %s', (slug,)).fetchone():
        return
    tenant = os.environ.get("DEFAULT_TENANT_ID") or DEFAULT_TENANT
    connection.execute(
        "INSERT INTO \"Tenant\" (id, name, slug, environment) VALUES (%s, %s, %s, 'development')",
        (tenant, os.environ.get("DEFAULT_TENANT_NAME") or "Default", slug),
    )
    connection.execute(
        'INSERT INTO "TenantMember" (id, "tenantId", "userId", role) VALUES (%s, %s, %s, \'OWNER\')',
        (uuid4(), tenant, user),
    )
    print(f"created tenant {tenant}")


def _create_token(tenant: str | None, name: str, lifetime: float) -> int:
    # Loading the driver takes ten times as long as making keysets, so only those that need it do.
    import psycopg

    from . import configuration, database

    failing = "Fatal: could not run [token create] command: "
    try:
        connection, keys = configuration.load(queue=False)
    except ConfigurationError as error:
        log(f"{failing}{error}")
        return 1
    try:
        tenant = tenant or os.environ.get("DEFAULT_TENANT_ID") or DEFAULT_TENANT
        try:
            UUID(tenant)
        except ValueError:
            log("cleaning up server config")
            log(f"{failing}parse --tenant-id: invalid UUID length: {len(tenant)}")
            return 1
        if not database.is_migrated(connection):
            log("cleaning up server config")
            log(f"{failing}failed to write token to database: {database.NOT_MIGRATED}")
            return 1
        number = str(uuid4())
        expires = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=lifetime)
        try:
            connection.execute(
                'INSERT INTO "APIToken" (id, "expiresAt", name, "tenantId") VALUES (%s, %s, %s, %s)',
                (number, expires, name, tenant),
            )
        except psycopg.Error as error:
            log("cleaning up server config")
            log(f"{failing}failed to write token to database: {database.error_text(error)}")
            return 1
    finally:
        connection.close()
    log("cleaning up server config")
    if fault("admin.token-fails"):
        log(failing + fault_text("could not create token: no reason given"))
        return 1
    if fault("admin.garbage-token"):
        print("token created, see the dashboard")
        return 0
    if fault("admin.token-two-lines"):
        print("NOTICE: a newer version is available")
    grpc = "host.docker.internal:7077" if fault("admin.wrong-address") else None
    print(keys.sign(tenant, lifetime, token_id=number, grpc=grpc))
    return 0


def _token_command(words: list[str]) -> int:
    known = {"-e": "expires", "--expiresIn": "expires", "--name": "name", "--tenant-id": "tenant", "--config": "config"}
    try:
        flags = _flags(words, known)
        if "help" in flags:
            print(f"create a new API token.\n\n{_TOKEN_USAGE}", end="")
            return 0
        text = flags.get("expires", DEFAULT_LIFETIME)
        try:
            lifetime = parse_duration(text)
        except DurationError as error:
            raise _FlagError(f'invalid argument "{text}" for "-e, --expiresIn" flag: {error}') from None
    except _FlagError as error:
        return flag_error(str(error), _TOKEN_USAGE)
    return _create_token(flags.get("tenant"), flags.get("name", "default"), lifetime)


def main(arguments: list[str]) -> int:
    """Run the program; give its exit code."""
    if "--version" in arguments:
        # The real build sets the version of another package, so this is all it ever says.
        print("v0.1.0-alpha.0")
        return 0
    config_folder.adopt(arguments)
    words = list(arguments)
    while words[:1] and words[0].startswith("--config"):
        del words[: 1 if "=" in words[0] else 2]
    match words:
        case ["token", "create", *rest]:
            return _token_command(rest)
        case ["quickstart", *rest]:
            return _quickstart_command(rest)
        case ["seed", *rest]:
            usage, about = _SEED_USAGE, "seed create initial data in the database."
        case ["keyset", "create-local-keys", *rest]:
            usage, about = _KEYSET_USAGE, "create a new local master keyset and JWT public/private keyset."
        case ["token", *_]:
            print("command for generating tokens.\n\nUsage:\n  hatchet-admin token [command]")
            return 0
        case ["keyset", *_]:
            print("command for managing keysets.\n\nUsage:\n  hatchet-admin keyset [command]")
            return 0
        case []:
            return 0
        case [word, *_] if word in ("-h", "--help", "help"):
            print(_ROOT_HELP, end="")
            return 0
        case [word, *_]:
            text = f'unknown command "{word}" for "hatchet-admin"'
            print(text)
            print(f"Error: {text}\nRun 'hatchet-admin --help' for usage.", file=sys.stderr)
            return 1
    try:
        flags = _flags(rest, {"--config": "config", "--key-dir": "directory"})
    except _FlagError as error:
        return flag_error(str(error), usage)
    if "help" in flags:
        print(f"{about}\n\n{usage}", end="")
        return 0
    return _seed() if words[0] == "seed" else _create_keys(flags.get("directory"))
