"""`owlclaw-up report`: where the page or the bundle goes, and what may be replaced there."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from owlclaw_up.cli.terminal import Ui
from owlclaw_up.errors import OutputRefused, UsageError
from owlclaw_up.model import Listener, Outcome

if TYPE_CHECKING:
    from owlclaw_up.report import Gathered

NAME = "owlclaw-up-report"
# Enough to find out who made a file.
_HEAD = 2000


@dataclass(frozen=True)
class ReportCommand:
    """One run of the command.

    Attributes:
        output: a file, a folder, or `-`; None for the usual file in the project.
        bundle: an archive with the page and the files behind it; also where `output` is named `.zip`.
        force: replace a file that is not ours.
    """

    ui: Ui
    project_dir: Path | None
    output: Path | None
    bundle: bool
    force: bool

    def run(self) -> int:
        """Gives the exit code."""
        return self.ui.run(self._make)

    def _make(self, listener: Listener) -> Outcome:
        from owlclaw_up.host.machine import Host
        from owlclaw_up.report import gather_report
        from owlclaw_up.settings import find_project
        from owlclaw_up.views.report_bundle import encoded

        host = Host()
        bundle = self.bundle or (self.output is not None and self.output.suffix == ".zip")
        to_stdout = self.output == Path("-")
        if to_stdout and self.ui.json:
            raise UsageError("--output - and --json both want stdout", hint="leave one of them out")
        root = find_project(host.cwd, self.project_dir)
        path = target(root, self.output, ".zip" if bundle else ".html")
        if not to_stdout:
            refuse(path, force=self.force)
        begun = host.clock.monotonic()
        gathered = gather_report(root, listener, raw=bundle, host=host)
        files = _files(gathered, bundle=bundle)
        made = _archived(files) if bundle else encoded(next(iter(files.values())))
        if to_stdout:
            sys.stdout.buffer.write(made)
            sys.stdout.buffer.flush()
            return Outcome("report", "ok", 0, project=root, data={"path": "-"})
        try:
            host.files.write_private(path, made)
        except OSError as error:
            raise OutputRefused(path, os.strerror(error.errno or 0)) from None
        verdict = gathered.report.verdict
        return Outcome(
            "report", "ok", 0, project=root, seconds=host.clock.monotonic() - begun,
            data={
                "path": str(path), "bytes": len(made), "bundle": bundle, "files": list(files),
                "verdict": {"level": verdict.level, "title": verdict.title, "hint": verdict.hint},
            },
        )  # fmt: skip


def target(root: Path, output: Path | None, suffix: str) -> Path:
    """Where it goes: into the folder that was named, else the file, from the working directory; else into the project."""
    if output is None:
        return root / f"{NAME}{suffix}"
    path = output.expanduser().resolve()
    return path / f"{NAME}{suffix}" if path.is_dir() else path


def refuse(path: Path, *, force: bool) -> None:
    """Say no before anything is looked at.

    Raises:
        OutputRefused: there is no such folder, or a file that we did not make.
    """
    if not path.parent.is_dir():
        raise OutputRefused(path, f"there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise OutputRefused(path, "it is there already, and is no file")
    if force or not path.exists():
        return
    try:
        ours = _is_ours(path)
    except OSError as error:
        raise OutputRefused(path, os.strerror(error.errno or 0)) from None
    if not ours:
        raise OutputRefused(path, "it is there already, and is no report of owlclaw-up", "--force replaces it")


def _is_ours(path: Path) -> bool:
    from owlclaw_up.views.report import GENERATOR
    from owlclaw_up.views.report_bundle import COMMENT

    with path.open("rb") as file:
        if GENERATOR.encode() in file.read(_HEAD):
            return True
        file.seek(max(0, path.stat().st_size - len(COMMENT)))
        return file.read() == COMMENT


def _files(gathered: Gathered, *, bundle: bool) -> Mapping[str, str]:
    """Text by name, the page first."""
    from owlclaw_up.views.machine import document
    from owlclaw_up.views.report import page

    files = {f"{NAME}.html": page(gathered.report)}
    if bundle:
        for name, outcome in gathered.outcomes.items():
            files[name] = json.dumps(gathered.redact.within(document(outcome)), indent=1, ensure_ascii=False) + "\n"
        files |= gathered.texts
    return files


def _archived(files: Mapping[str, str]) -> bytes:
    from owlclaw_up.views.report_bundle import archive

    now = time.localtime()
    return archive(files, (now.tm_year, now.tm_mon, now.tm_mday, now.tm_hour, now.tm_min, now.tm_sec))
