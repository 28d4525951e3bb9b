"""Who shadows whom: what is read from where, and what is said of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from owlclaw_up.checks.shadows import shadow_findings
from owlclaw_up.facts.dotenv import look_for_shadows
from owlclaw_up.facts.values import EnvPlace, EnvPlaces
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Secret
from owlclaw_up.settings import load
from tests.unit.fakes import make_host

WANTED = {"HATCHET_CLIENT_TOKEN": "t", "HATCHET_CLIENT_HOST_PORT": "h:1", "DATABASE_URL": "d", "MY_URL": "u"}


def host_in(cwd: Path, **environ: str) -> Host:
    return dataclasses.replace(make_host(environ), cwd=cwd)


def look(project: Path, cwd: Path | None = None, environ: dict[str, str] | None = None, **settings: str) -> EnvPlaces:
    host = host_in(cwd or project, **(environ or {}))
    return look_for_shadows(host, load(project, {}, settings), project)


def texts(places: tuple[EnvPlace, ...]) -> list[str]:
    return [f"{p.key} in {p.text}" for p in places]


def place(key: str, value: str, where: str = ".env.local", line: int | None = 2) -> EnvPlace:
    return EnvPlace(key, where, line, Secret(value))


class TestLook:
    def test_the_shell_then_later_files(self, tmp_path: Path) -> None:
        for name, text in {
            ".env": "HATCHET_CLIENT_TOKEN=1\nX=1\nDATABASE_URL=1\nHATCHET_CLIENT_TOKEN=2\n",
            ".env.hatchet": "HATCHET_CLIENT_TOKEN=3\n",
            ".env.dev": "export HATCHET_CLIENT_TOKEN=\nDATABASE_URL=not-read-from-here\n",
            ".env.local": "# x\nhatchet_client_token='4'\n",
        }.items():
            (tmp_path / name).write_text(text)
        seen = look(tmp_path, environ={"HATCHET_CLIENT_TOKEN": "5", "DATABASE_URL": "", "PATH": "/bin"})
        assert texts(seen.written) == [
            "HATCHET_CLIENT_TOKEN in .env, line 1", "DATABASE_URL in .env, line 3", "HATCHET_CLIENT_TOKEN in .env, line 4",
        ]  # fmt: skip
        assert texts(seen.over) == [
            "HATCHET_CLIENT_TOKEN in the shell", "DATABASE_URL in the shell", "hatchet_client_token in .env.local, line 2",
            "HATCHET_CLIENT_TOKEN in .env.dev, line 1", "HATCHET_CLIENT_TOKEN in .env.hatchet, line 1",
        ]  # fmt: skip
        assert seen.elsewhere is None

    def test_another_working_directory(self, tmp_path: Path) -> None:
        project, other = tmp_path / "app", tmp_path / "other"
        (project / "src").mkdir(parents=True)
        other.mkdir()
        (project / ".env").write_text("HATCHET_CLIENT_TOKEN=1\n")
        (other / ".env").write_text("HATCHET_CLIENT_TOKEN=2\nDATABASE_URL=2\n")
        (project / "src/.env.local").write_text("HATCHET_CLIENT_TOKEN=3\n")
        seen = look(project, other)
        assert texts(seen.over) == [
            f"HATCHET_CLIENT_TOKEN in {other}/.env, line 1",
            f"DATABASE_URL in {other}/.env, line 2",
        ]
        assert seen.elsewhere == other
        inside = look(project, project / "src")
        assert (texts(inside.over), inside.elsewhere) == (
            ["HATCHET_CLIENT_TOKEN in src/.env.local, line 1"],
            project / "src",
        )

    def test_another_dotenv_file(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("HATCHET_CLIENT_TOKEN=1\n")
        (tmp_path / ".env.local").write_text("HATCHET_CLIENT_TOKEN=2\n")
        assert texts(look(tmp_path, env_file=".env.dev").over) == ["HATCHET_CLIENT_TOKEN in .env.local, line 1"]
        # No file that hatchet-sdk reads: then it reads the others instead.
        both = ["HATCHET_CLIENT_TOKEN in .env.local, line 1", "HATCHET_CLIENT_TOKEN in .env, line 1"]
        assert texts(look(tmp_path, env_file="app.env").over) == both

    def test_other_names(self, tmp_path: Path) -> None:
        environ = {"MY_URL": "x", "DATABASE_URL": "y", "HATCHET_CLIENT_TOKEN": "z"}
        seen = look(tmp_path, environ=environ, env_names="DATABASE_URL=MY_URL,HATCHET_CLIENT_TOKEN=T")
        assert texts(seen.over) == ["MY_URL in the shell"]

    @pytest.mark.parametrize("data", [b"\xff\xfeH\x00", b"\xc3\x28", b""])
    def test_a_file_that_nobody_can_read(self, data: bytes, tmp_path: Path) -> None:
        (tmp_path / ".env.local").write_bytes(data)
        (tmp_path / ".env.dev").mkdir()
        assert look(tmp_path) == EnvPlaces()


class TestFindings:
    def said(
        self, *over: EnvPlace, written: tuple[EnvPlace, ...] = (), elsewhere: Path | None = None
    ) -> list[list[str]]:
        places = EnvPlaces(written, over, elsewhere)
        findings = shadow_findings(places, Path("/app/.env"), WANTED)
        return [[f.id, f.level, f.title, f.detail, f.hint, f.command] for f in findings]

    def test_one_key(self) -> None:
        assert self.said(place("HATCHET_CLIENT_TOKEN", "x")) == [
            ["env.shadow", "warn", "HATCHET_CLIENT_TOKEN in .env.local, line 2 wins over .env",
             "programs read what stands there", "remove line 2 of .env.local", ""],
        ]  # fmt: skip

    def test_several_keys_of_one_place_are_one_finding(self) -> None:
        listed = (
            "programs read what stands there: HATCHET_CLIENT_TOKEN (line 2), HATCHET_CLIENT_HOST_PORT (line 5); "
            "empty, which counts as well: HATCHET_CLIENT_HOST_PORT"
        )
        shell = [place(k, "x", "the shell", None) for k in ("HATCHET_CLIENT_TOKEN", "DATABASE_URL")]
        files = [place("HATCHET_CLIENT_TOKEN", "y", line=2), place("HATCHET_CLIENT_HOST_PORT", "", line=5)]
        assert self.said(*shell, *files) == [
            ["env.shadow", "warn", "2 keys in the shell win over .env",
             "programs read what stands there: HATCHET_CLIENT_TOKEN, DATABASE_URL",
             "unset HATCHET_CLIENT_TOKEN DATABASE_URL", "unset HATCHET_CLIENT_TOKEN DATABASE_URL"],
            ["env.shadow", "warn", "2 keys in .env.local win over .env",
             listed,
             "remove lines 2, 5 of .env.local", ""],
        ]  # fmt: skip

    def test_what_says_the_same_shadows_nothing_nor_does_what_stands_below_it(self) -> None:
        same = place("hatchet_client_token", "t", "the shell", None)
        assert self.said(same, place("HATCHET_CLIENT_TOKEN", "x"), place("UNKNOWN", "x")) == []

    def test_a_key_that_stands_twice(self) -> None:
        lines = [place("DATABASE_URL", v, ".env", n) for n, v in ((1, "old"), (4, "older"), (9, "d"))]
        assert self.said(written=tuple(lines)) == [
            ["env.duplicates", "warn", ".env has more than one DATABASE_URL: the last one counts (line 9)",
             "nobody reads lines 1, 4", "remove lines 1, 4 of .env", ""],
        ]  # fmt: skip
        assert self.said(written=(place("DATABASE_URL", "d", ".env", 1), lines[2])) == []

    def test_a_folder_from_which_nobody_reads_it(self) -> None:
        (note,) = self.said(elsewhere=Path("/app/src"))
        assert note[:3] == ["env.elsewhere", "info", "a program that is started in /app/src does not read /app/.env"]

    def test_no_value_is_shown(self) -> None:
        findings = shadow_findings(
            EnvPlaces((place("DATABASE_URL", "geheim-1", ".env", 1), place("DATABASE_URL", "geheim-2", ".env", 2)),
                      (place("HATCHET_CLIENT_TOKEN", "geheim-3"),)),
            Path("/app/.env"), {**WANTED, "DATABASE_URL": "geheim-2"},
        )  # fmt: skip
        assert len(findings) == 2
        assert "geheim" not in repr(findings)
