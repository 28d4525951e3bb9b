"""The PostgreSQL server, its roles and databases."""

from __future__ import annotations

from owlclaw_up.checks import postgres_databases as ours
from owlclaw_up.checks import postgres_server as server
from owlclaw_up.checks.base import UP, Check
from owlclaw_up.checks.postgres_from_container import FROM_CONTAINER

# Without a server that lets us in, nothing else can be said of it.
OUT = (
    "postgres.url",
    "postgres.reach",
    "postgres.tls",
    "postgres.login",
    "postgres.version",
    "postgres.connections",
    "postgres.privileges",
)
CHECKS: tuple[Check, ...] = (
    Check(
        "postgres.url", "the URL of the admin login", "`up` ends with exit 3: the URL is no PostgreSQL URL",
        "a typing error in --admin-url or OWLCLAW_ADMIN_URL, or the URL of another database", "no server can be found by it",
        "postgresql://user:password@host:5432/postgres", server.speaks("postgres.url", server.url), ("stack",),
    ),
    Check(
        "postgres.reach", "the PostgreSQL that holds our databases answers",
        "`connection refused`, `could not translate host name`, `server closed the connection unexpectedly`",
        "it was stopped or killed, it is on another host or port, or something else listens there",
        "engine and application keep everything there", UP, server.reach, ("stack",),
        (
            "port.postgres", "docker.installed", "docker.running", "docker.permission", "container.missing",
            "container.stopped", "container.out-of-memory",
        ),
        fixable=True,
    ),
    Check(
        "postgres.tls", "PostgreSQL and we agree on TLS", "`server does not support SSL, but SSL was required`",
        "sslmode in the URL is stricter than the server, or the server than it", "nobody gets in",
        "?sslmode=require, or disable, in the URL", server.speaks("postgres.tls", server.agreed), ("stack",),
        ("postgres.url", "postgres.reach"),
    ),
    Check(
        "postgres.login", "PostgreSQL takes our admin login", "`password authentication failed`, `no pg_hba.conf entry`",
        "the password was changed, or another server has taken its place", "nothing can be made or looked at there",
        "owlclaw-up --admin-url postgresql://...", server.login, ("stack",), ("postgres.url", "postgres.reach", "postgres.tls"),
    ),
    Check(
        "postgres.version", "PostgreSQL is new enough", '`syntax error at or near "CONCURRENTLY"` from the engine',
        "a server older than 14", "Hatchet's tables cannot be made there", "a newer server, or one of ours: leave out --admin-url",
        server.speaks("postgres.version", server.version), ("stack",), ("postgres.url", "postgres.reach", "postgres.tls", "postgres.login"),
    ),
    Check(
        "postgres.connections", "PostgreSQL has connections enough",
        "`sorry, too many clients already`, `remaining connection slots are reserved`",
        "many sessions, or a max_connections that is smaller than the pools of engine and application together",
        "whoever comes next is refused, the engine too", "close sessions, or raise max_connections",
        server.speaks("postgres.connections", server.connections), ("stack", "inside"), ("postgres.url", "postgres.reach", "postgres.tls", "postgres.login"),
    ),
    Check(
        "postgres.privileges", "our logins have their rights in PostgreSQL",
        "`permission denied for schema public`, `permission denied for database`",
        "an admin login without CREATEDB or CREATEROLE, or rights that were taken from our roles",
        "the engine makes tables all the time, and migrations do", "GRANT, as the finding says",
        server.speaks("postgres.privileges", ours.privileges), ("stack", "inside"),
        ("postgres.url", "postgres.reach", "postgres.tls", "postgres.login", "postgres.version", "postgres.connections"),
    ),
    Check(
        "postgres.role", "our roles are there, and their passwords are known", "`password authentication failed for user \"hatchet\"`",
        "a role was dropped, got another password, or was there before us", "engine and application log in by it",
        "its password in .owlclaw-up/secrets.json, or another role", server.or_well("our roles let us in", ours.role),
        ("stack",), OUT, fixable=True,
    ),
    Check(
        "postgres.owner", "our databases belong to our roles", "`up` ends with exit 3: the database belongs to somebody else",
        "the database was there before us, or was given away", "what belongs to somebody else is left as it is",
        "ALTER DATABASE ... OWNER TO ..., or name its owner in `databases`", server.or_well("our databases are our roles'", ours.owner),
        ("stack",), (*OUT, "postgres.role"),
    ),
    Check(
        "postgres.database", "our databases are there", "`database \"owlclaw\" does not exist`",
        "somebody dropped it, or the server is another one", "what was in it is gone, tokens with it", UP,
        server.or_well("our databases are there", ours.database), ("stack",), OUT, fixable=True,
    ),
    Check(
        "postgres.timezone", "PostgreSQL's timezone, as our roles in our databases",
        "`primary database instance timezone is set to 'Europe/Berlin' but must be 'UTC' or 'Etc/UTC'`",
        "the server is in another zone, and what set UTC for the role in that database was reset",
        "Hatchet's engine refuses to start in another zone, or its schedules stall", UP,
        server.or_well("our roles are in UTC", ours.timezone), ("stack", "inside"), (*OUT, "postgres.role", "postgres.database"),
        fixable=True,
    ),
    Check(
        "postgres.encoding", "our databases are in UTF8", "`character with byte sequence ... has no equivalent in encoding`",
        "the database was made in another encoding", "texts that do not fit into it are refused",
        "dump it, and make it anew in UTF8", ours.encoding, ("stack",), OUT,
    ),
    Check(
        "postgres.collation", "the collation of our databases is that of the system",
        "`database was created using collation version X, but the operating system provides version Y`",
        "the system or the image of PostgreSQL was upgraded", "indexes on texts may miss rows",
        "REINDEX DATABASE, then ALTER DATABASE ... REFRESH COLLATION VERSION",
        server.or_well("collations are as they were made", ours.collation), ("stack", "inside"), (*OUT, "postgres.database"),
    ),
    Check(
        "postgres.btree_gist", "PostgreSQL has btree_gist", "`could not open extension control file`",
        "a PostgreSQL without its contrib package", "Hatchet's migrations create it", "apt-get install postgresql-contrib",
        server.speaks("postgres.btree_gist", server.btree_gist), ("stack",), OUT,
    ),
    Check(
        "postgres.btree_gist-early", "nobody made btree_gist before Hatchet", '`extension "btree_gist" already exists`',
        "it was created by hand, or came with template1", "Hatchet's migration creates it, and fails where it is",
        'psql -d hatchet -c "DROP EXTENSION btree_gist"', ours.btree_gist_early, ("stack",), OUT,
    ),
    Check(
        "postgres.vector", "pgvector is in the databases that want it", '`type "vector" does not exist`',
        "the extension was dropped, or the server got it after the database was made", "the application's vectors need it", UP,
        server.or_well("pgvector is where it is wanted", ours.extensions("postgres.vector")), ("stack",), (*OUT, "postgres.database"), fixable=True,
    ),
    Check(
        "postgres.extension", "other extensions are in the databases that want them", "`function ... does not exist`",
        "the extension was dropped, or the server does not have it", "the application asked for it", UP,
        server.or_well("the other extensions are there", ours.extensions("postgres.extension")), ("stack",), (*OUT, "postgres.database"), fixable=True,
    ),
    Check(
        "postgres.read-only", "our databases take writes", "`cannot execute INSERT in a read-only transaction`",
        "a standby, or default_transaction_read_only", "nothing can be kept", "the primary, or the setting reset",
        server.speaks("postgres.read-only", server.read_only), ("stack", "inside"), OUT,
    ),
    FROM_CONTAINER,
)  # fmt: skip
