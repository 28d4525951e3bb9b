"""Where a report goes, and what it may replace there."""

from __future__ import annotations

from pathlib import Path

import pytest

from owlclaw_up.cli.report import NAME, refuse, target
from owlclaw_up.errors import OutputRefused
from owlclaw_up.views.report import page
from owlclaw_up.views.report_bundle import archive
from tests.reports import a_report


def test_the_usual_place_a_file_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "app"
    assert target(root, None, ".html") == root / f"{NAME}.html"
    assert target(root, None, ".zip") == root / f"{NAME}.zip"
    assert target(root, Path("out"), ".zip") == tmp_path / f"out/{NAME}.zip"
    assert target(root, Path("out/../x.html"), ".html") == tmp_path / "x.html"


def test_what_we_made_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text(page(a_report()))
    (tmp_path / "r.zip").write_bytes(archive({"a": "b"}, (2026, 11, 26, 0, 0, 0)))
    for name in ("r.html", "r.zip", "not-there.html"):
        refuse(tmp_path / name, force=False)


def test_what_somebody_else_made_is_not(tmp_path: Path) -> None:
    for name, data in {"a.html": b"<p>mine</p>", "empty": b"", "b.zip": b"PK\x05\x06" + b"\0" * 18}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(OutputRefused, match="no report of owlclaw-up") as caught:
            refuse(tmp_path / name, force=False)
        assert "--force" in caught.value.hint
        refuse(tmp_path / name, force=True)


@pytest.mark.parametrize("path", ["/dev/null", "missing/x.html", "."])
def test_what_cannot_be_written_is_not_forced_either(path: str, tmp_path: Path) -> None:
    with pytest.raises(OutputRefused):
        refuse(tmp_path / path, force=True)
