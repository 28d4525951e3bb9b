"""The folder that `--from` names: what `prefetch` has put into it, or why it cannot be used."""

from __future__ import annotations

from owlclaw_up.errors import BundleUnusable
from owlclaw_up.host.bundle_base import Bundle
from owlclaw_up.model import Absent, Fact, Found
from owlclaw_up.settings import Settings


def look_at_bundle(settings: Settings) -> Fact[Bundle]:
    """What the folder has; absent without a kind where none was named, with one where it cannot be used."""
    folder = settings.from_dir.value
    if folder is None:
        return Absent("no folder was named with --from")
    from owlclaw_up.host.bundle import read_bundle

    try:
        return Found(read_bundle(folder.expanduser().absolute()))
    except BundleUnusable as error:
        return Absent(error.message, error.hint, error.code)
