"""The migrations of the stand-in: names and numbers of the real ones, and the tables that others read or clear."""

from __future__ import annotations

BTREE_GIST_STATEMENTS = """CREATE EXTENSION btree_gist;
CREATE TYPE uuidrange AS RANGE (
    SUBTYPE = UUID
);
CREATE TABLE v1_payload_offloaded_block_index (
    payload_inserted_at_date DATE NOT NULL,
    block_external_id_range uuidrange NOT NULL,
    index_file_key TEXT NOT NULL,
    CONSTRAINT v1_payload_offloaded_block_index_date_range_excl
        EXCLUDE USING GIST (payload_inserted_at_date WITH =, block_external_id_range WITH &&)
);"""

_STAMPS = """
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP"""


def _partition(name: str) -> str:
    return f'CREATE TABLE "{name}" (id text PRIMARY KEY,{_STAMPS}, "lastHeartbeat" timestamp(3), name text);'


_CORE = f"""
CREATE TYPE "TenantMemberRole" AS ENUM ('OWNER', 'ADMIN', 'MEMBER');
CREATE TYPE "TenantMajorEngineVersion" AS ENUM ('V0', 'V1');
CREATE TYPE "TenantEnvironment" AS ENUM ('local', 'development', 'production');
CREATE TYPE "LeaseKind" AS ENUM ('WORKER', 'QUEUE', 'CONCURRENCY_STRATEGY');
CREATE TYPE "WorkerType" AS ENUM ('WEBHOOK', 'MANAGED', 'SELFHOSTED');
CREATE TYPE "WorkerSDKS" AS ENUM ('UNKNOWN', 'GO', 'PYTHON', 'TYPESCRIPT', 'RUBY');
{_partition("ControllerPartition")}
{_partition("TenantWorkerPartition")}
{_partition("SchedulerPartition")}
CREATE TABLE "Tenant" (
    id uuid PRIMARY KEY,{_STAMPS},
    "deletedAt" timestamp(3),
    name text NOT NULL,
    slug text NOT NULL CONSTRAINT "Tenant_slug_key" UNIQUE,
    "analyticsOptOut" boolean NOT NULL DEFAULT false,
    "alertMemberEmails" boolean NOT NULL DEFAULT true,
    "controllerPartitionId" text CONSTRAINT "Tenant_controllerPartitionId_fkey"
        REFERENCES "ControllerPartition" (id) ON UPDATE SET NULL ON DELETE SET NULL,
    "workerPartitionId" text CONSTRAINT "Tenant_workerPartitionId_fkey"
        REFERENCES "TenantWorkerPartition" (id) ON UPDATE SET NULL ON DELETE SET NULL,
    "schedulerPartitionId" text CONSTRAINT "Tenant_schedulerPartitionId_fkey"
        REFERENCES "SchedulerPartition" (id) ON UPDATE SET NULL ON DELETE SET NULL,
    "dataRetentionPeriod" text NOT NULL DEFAULT '720h',
    version "TenantMajorEngineVersion" NOT NULL DEFAULT 'V1',
    environment "TenantEnvironment"
);
CREATE TABLE "User" (
    id uuid PRIMARY KEY,{_STAMPS},
    "deletedAt" timestamp(3),
    email text NOT NULL CONSTRAINT "User_email_key" UNIQUE,
    "emailVerified" boolean NOT NULL DEFAULT false,
    name text
);
CREATE TABLE "UserPassword" (
    hash text NOT NULL,
    "userId" uuid NOT NULL UNIQUE REFERENCES "User" (id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE "UserSession" (
    id uuid PRIMARY KEY,{_STAMPS},
    "userId" uuid REFERENCES "User" (id) ON UPDATE CASCADE ON DELETE CASCADE,
    data jsonb,
    "expiresAt" timestamp(3) NOT NULL
);
CREATE TABLE "TenantMember" (
    id uuid PRIMARY KEY,{_STAMPS},
    "tenantId" uuid NOT NULL REFERENCES "Tenant" (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "userId" uuid NOT NULL REFERENCES "User" (id) ON UPDATE CASCADE ON DELETE CASCADE,
    role "TenantMemberRole" NOT NULL,
    "canViewPayloads" boolean NOT NULL DEFAULT true,
    UNIQUE ("tenantId", "userId")
);
CREATE TABLE "APIToken" (
    id uuid PRIMARY KEY,{_STAMPS},
    "expiresAt" timestamp(3),
    revoked boolean NOT NULL DEFAULT false,
    name text,
    "tenantId" uuid CONSTRAINT "APIToken_tenantId_fkey"
        REFERENCES "Tenant" (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "nextAlertAt" timestamp(3),
    internal boolean NOT NULL DEFAULT false
);
CREATE TABLE "Dispatcher" (
    id uuid PRIMARY KEY,{_STAMPS},
    "deletedAt" timestamp(3),
    "lastHeartbeatAt" timestamp(3),
    "isActive" boolean NOT NULL DEFAULT true
);
CREATE TABLE "Worker" (
    id uuid PRIMARY KEY,{_STAMPS},
    "deletedAt" timestamp(3),
    "tenantId" uuid NOT NULL,
    "lastHeartbeatAt" timestamp(3),
    name text NOT NULL,
    "dispatcherId" uuid REFERENCES "Dispatcher" (id) ON UPDATE CASCADE ON DELETE SET NULL,
    "maxRuns" integer NOT NULL DEFAULT 100,
    "isActive" boolean NOT NULL DEFAULT false,
    "lastListenerEstablished" timestamp(3),
    "isPaused" boolean NOT NULL DEFAULT false,
    type "WorkerType" NOT NULL DEFAULT 'SELFHOSTED',
    language "WorkerSDKS",
    "languageVersion" text,
    os text,
    "sdkVersion" text
);
CREATE TABLE "Lease" (
    id bigserial PRIMARY KEY,
    "expiresAt" timestamp(3),
    "tenantId" uuid NOT NULL,
    "resourceId" text NOT NULL,
    kind "LeaseKind" NOT NULL,
    CONSTRAINT "Lease_tenantId_kind_resourceId_key" UNIQUE ("tenantId", kind, "resourceId")
);
"""

_INTERNAL_TENANT = """
INSERT INTO "Tenant" (id, name, slug) VALUES ('8d420720-ef03-41dc-9c73-1c93f276db97', 'internal', 'internal')
ON CONFLICT DO NOTHING;
"""

_RUNS = """
CREATE TYPE v1_readable_status_olap AS ENUM ('QUEUED', 'RUNNING', 'CANCELLED', 'FAILED', 'COMPLETED', 'EVICTED');
CREATE TABLE standin_document (
    kind text NOT NULL,
    id text NOT NULL,
    "tenantId" uuid NOT NULL,
    body jsonb NOT NULL,
    PRIMARY KEY (kind, id)
);
"""

# Every one has the name and number of a real migration, so that versions compare; most do nothing here.
MIGRATIONS: tuple[tuple[int, str, str], ...] = (
    (20240115180414, "init.sql", _CORE),
    (20240122014727, "v0_6_0.sql", ""),
    (20240126235456, "v0_7_0.sql", ""),
    (20240129040510, "v0_8_0.sql", ""),
    (20240202042355, "v0_9_0.sql", ""),
    (20240209132837, "v0_10_0.sql", ""),
    (20240215162148, "v0_10_2.sql", ""),
    (20240216133745, "v0_11_0.sql", _INTERNAL_TENANT),
    (20260424205453, "v1_0_100.sql", _RUNS),
    (20260521213214, "v1_0_112.sql", ""),
    (20260522014401, "v1_0_113.sql", BTREE_GIST_STATEMENTS),
    (20260715190323, "v1_0_130.go", ""),
    (20260717150345, "v1_0_131.sql", ""),
    (20260719000944, "v1_0_132.sql", ""),
    (20260818184000, "v1_0_145.sql", ""),
    (20260819154845, "v1_0_146.sql", ""),
    (20260820185000, "v1_0_147.sql", ""),
)
# What newer engines add: the first version that has it, then as above. A failing one leaves the first of the two done.
LATER: tuple[tuple[tuple[int, int, int], tuple[int, str, str]], ...] = (
    ((0, 108, 0), (20260901120000, "v1_0_150.sql", "CREATE TABLE standin_later (id bigserial PRIMARY KEY);")),
    ((0, 108, 0), (20260902120000, "v1_0_151.sql", "ALTER TABLE standin_document ADD COLUMN later text;")),
)


def migrations(version: str) -> tuple[tuple[int, str, str], ...]:
    """The migrations of an engine of this version."""
    numbers = tuple(int(part) for part in version.lstrip("v").split("-")[0].split("."))
    return (*MIGRATIONS, *(step for first, step in LATER if numbers >= first))


OUTBOX = """
CREATE SCHEMA IF NOT EXISTS outbox;
CREATE TABLE IF NOT EXISTS outbox.migrations (id bigint PRIMARY KEY);
CREATE TABLE IF NOT EXISTS outbox.topics (id bigserial PRIMARY KEY, name text);
CREATE TABLE IF NOT EXISTS outbox.messages (id bigserial PRIMARY KEY, topic text, payload bytea);
"""
VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS goose_db_version (
    id integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp timestamp NOT NULL DEFAULT now()
)
"""
