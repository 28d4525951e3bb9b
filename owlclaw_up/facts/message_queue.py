"""Probe of the RabbitMQ that a setting names: does its port answer. Says nothing of its login."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.host.ports import answers_tcp
from owlclaw_up.model import Absent, Fact, Found
from owlclaw_up.settings import Settings

_PORTS = {"amqp": 5672, "amqps": 5671}
_CONNECT, _ALL = 1.0, 2.0


@dataclass(frozen=True)
class MessageQueueLook:
    """Attributes: `where` is `host:port`; empty where the setting is no URL of AMQP."""

    where: str
    answers: bool


def look_at_message_queue(settings: Settings) -> Fact[MessageQueueLook]:
    """From this machine; what is `localhost` there is the same server for an engine in a container."""
    url = settings.rabbitmq_url.value
    if url is None:
        return Absent("rabbitmq_url is not set")
    try:
        parts = urlsplit(url.reveal())
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        host, port = "", 0
    if not host or not port:
        return Found(MessageQueueLook("", False))
    # Looking a name up has no deadline of its own.
    answers = ask({"port": lambda: answers_tcp(host, port, _CONNECT)}, _ALL)
    return Found(MessageQueueLook(f"{host}:{port}", answers.get("port", False)))
