"""The native engine of a folder made by `prefetch`, into the user's cache: there it stays when the folder is gone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from owlclaw_up.errors import BundleUnusable, EngineUnusable
from owlclaw_up.host.base import Processes
from owlclaw_up.host.bundle import copy_verified
from owlclaw_up.host.bundle_base import ENGINE, Bundle
from owlclaw_up.host.engines import BINARIES, cache_dir, import_engine
from owlclaw_up.spec import EngineBinaries


def is_bundled_engine(directory: Path, bundle: Bundle) -> bool:
    """Whether a folder has the files of the folder's engine, by name and size: hashing them would cost each run a second."""
    for file in bundle.below(ENGINE):
        path = directory / file.name.removeprefix(f"{ENGINE}/")
        if not path.is_file() or path.stat().st_size != file.size:
            return False
    return True


def import_bundled(
    bundle: Bundle, processes: Processes, progress: Callable[[int, int], None]
) -> tuple[EngineBinaries, bool]:
    """Copy what the manifest names, and nothing else, and keep it as `engine import` does.

    Args:
        progress: told the bytes that are copied, and those that there are.

    Returns:
        The engine in the cache, and whether it was new there.

    Raises:
        BundleUnusable: a file is not as it was made.
        EngineUnusable: the engine does not run here, or the cache cannot be written.
    """
    root, files = cache_dir(), bundle.below(ENGINE)
    total, done = sum(file.size for file in files), 0
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".bundled-", dir=root))
    except OSError as error:
        raise _cannot_keep(root, error) from None
    try:
        for file in files:
            target = staging / file.name.removeprefix(f"{ENGINE}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_verified(bundle, file, target)
            # The disk that the folder came on may know no such rights.
            target.chmod(0o755 if target.name in BINARIES and target.parent == staging else 0o644)
            done += file.size
            progress(done, total)
        return import_engine(staging, processes)
    except EngineUnusable as error:
        raise EngineUnusable(
            error.code, error.message.replace(str(staging), str(bundle.folder / ENGINE)),
            hint=error.hint.replace(str(staging), str(bundle.folder / ENGINE)), detail=error.detail,
        ) from None  # fmt: skip
    except OSError as error:
        raise _cannot_keep(root, error) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _cannot_keep(root: Path, error: OSError) -> BundleUnusable:
    return BundleUnusable(
        "bundle-engine", f"the engine cannot be kept in {root}: {error.strerror or error}", hint=f"df -h {root.parent}",
        detail=str(error),
    )  # fmt: skip
