"""Names of images, taken apart as Docker takes them apart. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from owlclaw_up.host.base import on_this_machine

_HUB = ("docker.io", "index.docker.io")
_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True)
class Reference:
    """An image's name, taken apart.

    Attributes:
        registry: host, with the port where there is one.
        at: a tag or a digest.
    """

    registry: str
    repository: str
    at: str

    @property
    def plain(self) -> bool:
        """Whether the registry is spoken to without TLS: on loopback, as Docker does."""
        return on_this_machine(self.registry.rpartition(":")[0] or self.registry) or on_this_machine(self.registry)

    @property
    def base(self) -> str:
        host = _HUB_API if self.registry == "docker.io" else self.registry
        return f"{'http' if self.plain else 'https'}://{host}/v2/{self.repository}"


def parse_reference(name: str) -> Reference:
    """`host:5000/a/b:tag`, `a/b@sha256:...`, `postgres`: as Docker reads them."""
    name, at_sign, digest = name.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, "latest"
    first, slash, rest = head.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, repository = (first, rest) if named else ("docker.io", head)
    if registry in _HUB:
        registry, repository = "docker.io", repository if "/" in repository else f"library/{repository}"
    return Reference(registry, repository, digest if at_sign else tag)


def on_mirror(reference: str, mirror: str) -> str:
    """Where a mirror has an image: the registry's name, or Docker Hub's that is left out, gives way to the mirror's.

    What is named by its digest comes from where it is named: no image can be given such a name afterwards.
    """
    if not mirror or "@" in reference:
        return reference
    first, _, rest = reference.partition("/")
    named = bool(rest) and ("." in first or ":" in first or first == "localhost")
    path = rest if named else reference
    if "/" not in path and (not named or first in _HUB):
        path = f"library/{path}"
    return f"{mirror.removeprefix('https://').removeprefix('http://').rstrip('/')}/{path}"


def leaves_machine(reference: str) -> bool:
    """Whether a pull by that name would contact another machine."""
    return not parse_reference(reference).plain
