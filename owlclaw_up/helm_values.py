"""Values for Hatchet's own charts, and the Secret beside them, as text. Pure.

Read from the charts' sources, hatchet-dev/hatchet-charts, chart 0.12.0; the gaps that are closed here stand as comments in
what is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from owlclaw_up.host.base import on_this_machine

CHARTS = ("hatchet-ha", "hatchet-stack")
KEYS_OBJECT = "owlclaw-up-hatchet"
READ_FROM = "0.12.0"
# Deployment of the chart -> its pods, and what it serves: hatchet, cmd/hatchet-engine/engine/run.go.
_DEPLOYMENTS: dict[str, dict[str, tuple[int, str]]] = {
    "hatchet-ha": {
        "api": (2, ""),
        "grpc": (2, "grpc-api"),
        "controllers": (2, "controllers"),
        "scheduler": (2, "scheduler"),
    },
    "hatchet-stack": {"api": (2, ""), "engine": (1, "all")},
}
_GRPC_SERVICE = {"hatchet-ha": "hatchet-grpc", "hatchet-stack": "hatchet-engine"}
# Connections of one pod: its pool, and ten for migrations and notifications (hatchet, pkg/config/loader).
POOL, _EXTRA, _SLACK = 20, 10, 50
_MIGRATION_SECONDS = 7200


@dataclass(frozen=True)
class HelmExport:
    """What an environment hands over to a cluster.

    Attributes:
        chart: `hatchet-ha` or `hatchet-stack`.
        tag: of Hatchet's images.
        server_url: REST and dashboard; part of the identity of every token.
        grpc_address: where workers dial, host and port.
        moved: whether `server_url` is another one than the environment's, so that its tokens are refused there.
        database_host: of the URL in the secrets.
        secrets: variables that go into the Secret.
    """

    chart: str
    tag: str
    server_url: str
    grpc_address: str
    moved: bool
    admin_email: str
    tenant: str
    rabbitmq_host: str | None
    database_host: str
    secrets: Mapping[str, str]

    @property
    def pods(self) -> int:
        return sum(pods for pods, _ in _DEPLOYMENTS[self.chart].values())

    @property
    def connections(self) -> int:
        """What the cluster's PostgreSQL must allow at least."""
        return self.pods * (POOL + _EXTRA) + _SLACK

    @property
    def to_change(self) -> tuple[str, ...]:
        """What has to be changed by hand, because it names this machine or is too small."""
        found = []
        if on_this_machine(urlsplit(self.server_url).hostname or ""):
            found.append(f"serverUrl {self.server_url} names this machine: --server-url https://HOST")
        if on_this_machine(self.grpc_address.rpartition(":")[0]):
            found.append(f"grpcBroadcastAddress {self.grpc_address} names this machine: --grpc-address HOST:443")
        if on_this_machine(self.database_host):
            found.append(f"DATABASE_URL in the Secret names {self.database_host}: no pod reaches this machine by that")
        if self.rabbitmq_host is None and self.chart == "hatchet-ha":
            found.append("PostgreSQL is the queue, which is enough for one engine: set rabbitmq_url for more of them")
        elif self.rabbitmq_host is not None and on_this_machine(self.rabbitmq_host):
            found.append(f"SERVER_MSGQUEUE_RABBITMQ_URL in the Secret names {self.rabbitmq_host}, as above")
        return tuple(found)


def values(export: HelmExport) -> str:
    """`values.yaml`: no secret is in it."""
    text, host = _scalar, urlsplit(export.server_url).hostname or ""
    insecure = "f" if export.server_url.startswith("https:") else "t"
    service = _GRPC_SERVICE[export.chart]
    shared = {
        "DATABASE_MAX_CONNS": str(POOL),
        "PGTZ": "UTC",
        "DEFAULT_TENANT_ID": export.tenant,
        "SERVER_ALLOW_SIGNUP": "false",
        "SERVER_SECURITY_CHECK_ENABLED": "false",
        "SERVER_OPTIMISTIC_SCHEDULING_ENABLED": "false",
        "SERVER_GRPC_TRIGGER_WRITES_ENABLED": "false",
        "SERVER_MSGQUEUE_KIND": "rabbitmq" if export.rabbitmq_host is not None else "postgres",
        "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": f"{service}:7070",
    }
    lines = [
        f"# Values for Hatchet's chart {export.chart}, written by `owlclaw-up export helm`; read from chart {READ_FROM}.",
        "# No secret is in here: keys and passwords are in the Secret that was written beside it.",
        "#",
        "#   kubectl create namespace hatchet",
        "#   kubectl apply -n hatchet -f secret.yaml",
        "#   helm repo add hatchet https://hatchet-dev.github.io/hatchet-charts",
        f"#   helm install hatchet hatchet/{export.chart} -n hatchet -f values.yaml",
        "#",
        "# To be changed first:",
        *(f"#   - {what}" for what in export.to_change or ("nothing that could be seen from here",)),
        "#",
        "# To be sized:",
        f"#   - PostgreSQL: max_connections >= pods x (DATABASE_MAX_CONNS + {_EXTRA}) + slack, here",
        f"#     {export.pods} x ({POOL} + {_EXTRA}) + {_SLACK} = {export.connections}. Version 14 or newer, btree_gist to be had, a direct connection:",
        "#     a pooler in transaction mode goes into DATABASE_PGBOUNCER_URL, beside DATABASE_URL.",
        "#   - RabbitMQ: three nodes, where it shall outlive one.",
        "#   - replicaCount and resources of each deployment below.",
        "#   - gRPC: whatever stands before it speaks HTTP/2 and leaves streams open for hours.",
        "#",
        *_about_tokens(export),
        "",
        "sharedConfig:",
        "  enabled: true",
        f"  image: {{tag: {text(export.tag)}}}",
        "  # The identity of every token, by exact string: changed later, every token is refused.",
        f"  serverUrl: {text(export.server_url)}",
        "  # The chart's own example has a port here, which browsers drop.",
        f"  serverAuthCookieDomain: {text(host)}",
        f"  serverAuthCookieInsecure: {text(insecure)}",
        '  serverAuthSetEmailVerified: "t"',
        '  serverAuthBasicAuthEnabled: "t"',
        "  # Where workers dial. Pods speak plain text; TLS ends at the ingress before them.",
        f"  grpcBroadcastAddress: {text(export.grpc_address)}",
        '  grpcInsecure: "t"',
        f"  defaultAdminEmail: {text(export.admin_email)}",
        "  # In the Secret, as ADMIN_PASSWORD, which comes later and wins.",
        '  defaultAdminPassword: ""',
        "  env:",
        *(f"    {name}: {text(value)}" for name, value in shared.items()),
        "",
    ]
    for name, (pods, services) in _DEPLOYMENTS[export.chart].items():
        lines += _deployment(export, name, pods, services)
    lines += [
        "frontend:",
        "  # The charts hand sharedConfig.image.tag on to none of their parts.",
        f"  sharedConfig: {{image: {{tag: {text(export.tag)}}}}}",
        "",
        "# The bundled ones are images that nobody maintains any more.",
        "postgres: {enabled: false}",
        "rabbitmq: {enabled: false}",
        "",
    ]
    return "\n".join(lines)


def _about_tokens(export: HelmExport) -> list[str]:
    if export.moved:
        return [
            "# Tokens of the environment that this comes from are refused here: serverUrl is another one. The chart makes a",
            "# new one, in the Secret hatchet-client-config.",
        ]
    return [
        "# Tokens of the environment that this comes from stay good where their records are: on its database, or on a copy.",
        "# Programs then need new addresses alone: HATCHET_CLIENT_HOST_PORT and HATCHET_CLIENT_SERVER_URL.",
    ]


def _deployment(export: HelmExport, name: str, pods: int, services: str) -> list[str]:
    text = _scalar
    sources = [f"    - secretRef: {{name: {source}}}" for source in ("hatchet-shared-config", KEYS_OBJECT)]
    lines = [
        f"{name}:",
        f"  replicaCount: {pods}",
        f"  sharedConfig: {{image: {{tag: {text(export.tag)}}}}}",
        "  # In the place of the Secret that the chart's quickstart would make, with keys of its own.",
        "  deploymentEnvFrom:",
        sources[1],
        "  envFrom:",
        *sources,
        "  resources:",
        '    limits: {memory: "1024Mi"}',
        '    requests: {cpu: "250m", memory: "1024Mi"}',
    ]
    if services:
        lines += [
            "  # The charts set none, so that every deployment would do everything.",
            f"  env: {{SERVER_SERVICES: {text(services)}}}",
        ]
    if name == "engine":
        lines.append(f"  fullnameOverride: {_GRPC_SERVICE[export.chart]}")
    if name == "api":
        lines += [
            "  # The keys are this environment's own.",
            "  quickstartJob: {enabled: false}",
            f"  workerTokenJob: {{enabled: {'true' if export.moved else 'false'}}}",
            f"  migrationJob: {{activeDeadlineSeconds: {_MIGRATION_SECONDS}}}",
            "  # Its psql waits for the database; the chart takes whatever is the latest.",
            '  postgresImage: {tag: "16"}',
        ]
    return [*lines, ""]


def _scalar(value: str) -> str:
    """A text in double quotes, as YAML 1.1 and 1.2 both read it: whatever is not plain ASCII is escaped."""
    plain = (json.dumps(c)[1:-1] if " " <= c <= "~" else f"\\U{ord(c):08x}" for c in value)
    return f'"{"".join(plain)}"'


def secret(export: HelmExport) -> str:
    """The manifest of the Secret that `values` refers to."""
    text = _scalar
    return "\n".join([
        "# Keys and passwords for Hatchet, written by `owlclaw-up export helm`. Whoever reads this can make tokens.",
        "apiVersion: v1",
        "kind: Secret",
        f"metadata: {{name: {KEYS_OBJECT}}}",
        "type: Opaque",
        "stringData:",
        *(f"  {name}: {text(value)}" for name, value in export.secrets.items()),
        "",
    ])  # fmt: skip
