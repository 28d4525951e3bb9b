"""Engine binaries: what a folder must have, the order in which engines are taken, an import that is whole or nothing."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from owlclaw_up.errors import EngineUnusable
from owlclaw_up.host.base import Ran
from owlclaw_up.host.engines import BINARIES, EngineRefused, cache_dir, find, import_engine, inspect, version_tuple
from owlclaw_up.spec import EngineBinaries
from tests.unit.fakes import FakeProcesses

SCRIPT = b"#!/bin/sh\n"


def elf(machine: int, *, little: bool = True) -> bytes:
    """The first twenty bytes of a Linux program."""
    head = b"\x7fELF" + bytes([2, 1 if little else 2, 1]) + bytes(9)
    return head + (2).to_bytes(2, "little") + machine.to_bytes(2, "little" if little else "big")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_dir().is_relative_to(tmp_path)
    return cache_dir()


@pytest.fixture
def processes() -> FakeProcesses:
    return FakeProcesses()


def make(folder: Path, processes: FakeProcesses, version: str = "v0.107.2", content: bytes = SCRIPT) -> Path:
    """A folder with the three binaries; `hatchet-lite --version` is answered."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in BINARIES:
        (folder / name).write_bytes(content + name.encode())
        (folder / name).chmod(0o755)
    processes.programs[str(folder / "hatchet-lite")] = f"{version}\n"
    return folder


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("v0.104.7", (0, 104, 7)),
        ("0.104.7", (0, 104, 7)),
        ("v1.2.3-rc.1", (1, 2, 3)),
        ("v0.1.0-alpha.0", (0, 1, 0)),
        ("v10.20.30+build", (10, 20, 30)),
        ("", (0, 0, 0)),
        ("latest", (0, 0, 0)),
        ("v1.2", (0, 0, 0)),
    ],
)
def test_version_tuple(text: str, numbers: tuple[int, int, int]) -> None:
    assert version_tuple(text) == numbers


def test_versions_compare_as_numbers() -> None:
    assert version_tuple("v0.99.1") < version_tuple("v0.107.2") < version_tuple("v0.111.0")


def test_a_good_folder(tmp_path: Path, processes: FakeProcesses) -> None:
    folder = make(tmp_path / "engine", processes)
    assert inspect(folder, "PATH", processes) == EngineBinaries(folder, "PATH", "v0.107.2", None)
    assert processes.calls == [(str(folder / "hatchet-lite"), "--version")]
    (folder / "static-assets").mkdir()
    assert inspect(folder, "PATH", processes) == EngineBinaries(folder, "PATH", "v0.107.2", None), "no index.html"
    (folder / "static-assets" / "index.html").touch()
    assert inspect(folder, "PATH", processes) == EngineBinaries(folder, "PATH", "v0.107.2", folder / "static-assets")


def test_the_version_is_the_last_line(tmp_path: Path, processes: FakeProcesses) -> None:
    folder = make(tmp_path / "engine", processes)
    processes.programs[str(folder / "hatchet-lite")] = "a warning\nv0.99.1\n"
    looked = inspect(folder, "PATH", processes)
    assert isinstance(looked, EngineBinaries)
    assert looked.version == "v0.99.1"


def refusal(folder: Path, processes: FakeProcesses) -> EngineRefused:
    looked = inspect(folder, "PATH", processes)
    assert isinstance(looked, EngineRefused)
    assert (looked.directory, looked.source) == (folder, "PATH")
    assert looked.hint
    return looked


def test_no_folder(tmp_path: Path, processes: FakeProcesses) -> None:
    refused = refusal(tmp_path / "gone", processes)
    assert (refused.code, refused.why) == ("engine-missing", f"{tmp_path / 'gone'} is no folder")


@pytest.mark.parametrize("name", BINARIES)
def test_a_binary_is_missing(name: str, tmp_path: Path, processes: FakeProcesses) -> None:
    folder = make(tmp_path / "engine", processes)
    (folder / name).unlink()
    refused = refusal(folder, processes)
    assert (refused.code, refused.why) == ("engine-incomplete", f"{folder} has no {name}")
    assert processes.calls == []


@pytest.mark.parametrize("name", BINARIES)
def test_a_binary_is_not_executable(name: str, tmp_path: Path, processes: FakeProcesses) -> None:
    folder = make(tmp_path / "engine", processes)
    (folder / name).chmod(0o644)
    refused = refusal(folder, processes)
    assert (refused.code, refused.hint) == ("engine-not-executable", f"chmod +x {folder / name}")


def test_it_does_not_run(tmp_path: Path, processes: FakeProcesses) -> None:
    folder = make(tmp_path / "engine", processes)
    del processes.programs[str(folder / "hatchet-lite")]
    assert refusal(folder, processes).code == "engine-not-runnable"


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        (("", "", 1), "exit code 1"),
        (("", "Segmentation fault\n", -11), "Segmentation fault"),
        (("hello\n", "", 0), "hello"),
        (("v0.107.2 and more\n", "", 0), "v0.107.2 and more"),
        (("../../etc\n", "", 0), "../../etc"),
        (("v1.2.3/../../x\n", "", 0), "v1.2.3/../../x"),
        (("v0.107.2\n", "", 3), "v0.107.2"),
    ],
)
def test_what_it_says_is_no_version(
    ran: tuple[str, str, int], said: str, tmp_path: Path, processes: FakeProcesses
) -> None:
    folder = make(tmp_path / "engine", processes)
    out, err, code = ran
    processes.programs[str(folder / "hatchet-lite")] = lambda argv: Ran(tuple(argv), code, out, err, 0.0)
    refused = refusal(folder, processes)
    assert refused.code == "engine-not-runnable"
    assert refused.why.endswith(f"--version says: {said}")


@pytest.mark.parametrize(
    ("system", "machine", "head", "foreign"),
    [
        ("Linux", "x86_64", elf(0x3E), ""),
        ("Linux", "AMD64", elf(0x3E), ""),
        ("Linux", "aarch64", elf(0xB7), ""),
        ("Linux", "arm64", elf(0xB7), ""),
        ("Linux", "x86_64", elf(0xB7), "aarch64 Linux"),
        ("Linux", "aarch64", elf(0x3E), "x86_64 Linux"),
        ("Linux", "x86_64", elf(0x28), "arm Linux"),
        ("Linux", "x86_64", elf(0x03), "i386 Linux"),
        ("Linux", "x86_64", elf(0x15, little=False), "another machine Linux"),
        ("Darwin", "arm64", elf(0xB7), "aarch64 Linux"),
        ("Linux", "x86_64", b"\xcf\xfa\xed\xfe" + bytes(16), "macOS"),
        ("Darwin", "arm64", b"\xcf\xfa\xed\xfe" + bytes(16), ""),
        ("Linux", "x86_64", b"\xca\xfe\xba\xbe" + bytes(16), "macOS"),
        ("Linux", "x86_64", b"MZ" + bytes(18), "Windows"),
        ("Windows", "AMD64", b"MZ" + bytes(18), ""),
        ("Linux", "x86_64", SCRIPT, ""),
        ("Linux", "x86_64", b"", ""),
        ("Linux", "x86_64", b"\x7fELF", "another machine Linux"),
    ],
)
def test_a_binary_for_another_machine(
    system: str, machine: str, head: bytes, foreign: str, tmp_path: Path, processes: FakeProcesses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    folder = make(tmp_path / "engine", processes)
    (folder / "hatchet-lite").write_bytes(head)
    if foreign:
        refused = refusal(folder, processes)
        assert refused.code == "engine-architecture"
        assert f"is built for {foreign}, this machine is {machine} {system}" in refused.why
        assert processes.calls == [], "what is for another machine is not even tried"
    else:
        assert isinstance(inspect(folder, "PATH", processes), EngineBinaries)


def sources(found: Sequence[EngineBinaries | EngineRefused]) -> list[tuple[str, str]]:
    return [(e.source, e.directory.name) for e in found]


def test_the_order_of_what_is_at_hand(tmp_path: Path, processes: FakeProcesses, own_cache: Path) -> None:
    on_path = make(tmp_path / "bin", processes, "v0.100.0")
    kept = make(tmp_path / "kept", processes, "v0.90.0")
    for version in ("v0.99.1", "v0.107.2", "v0.111.0"):
        make(own_cache / version, processes, version)
    (own_cache / ".import-left-over").mkdir()
    environ = {"PATH": f"/nonexistent:{on_path}"}
    cache = [("engine cache", v) for v in ("v0.111.0", "v0.107.2", "v0.99.1")]
    assert sources(find(None, None, environ, processes)) == [("PATH", "bin"), *cache]
    assert sources(find(None, None, {"PATH": "/nonexistent"}, processes)) == cache
    assert sources(find(None, kept, environ, processes)) == [("last run", "kept")]
    gone = find(None, tmp_path / "gone", environ, processes)
    assert sources(gone) == [("last run", "gone"), ("PATH", "bin"), *cache]
    assert isinstance(gone[0], EngineRefused)


def test_a_named_folder_is_the_only_candidate(tmp_path: Path, processes: FakeProcesses, own_cache: Path) -> None:
    make(own_cache / "v0.107.2", processes)
    for name in ("gone", "named"):
        (looked,) = find(tmp_path / name, tmp_path / "kept", {"PATH": ""}, processes)
        assert (looked.source, looked.directory) == ("OWLCLAW_UP_ENGINE_DIR", tmp_path / name)
        assert isinstance(looked, EngineRefused) is (name == "gone")
        make(tmp_path / "named", processes)


def test_a_link_on_the_path_leads_to_its_folder(tmp_path: Path, processes: FakeProcesses) -> None:
    real = make(tmp_path / "real", processes)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hatchet-lite").symlink_to(real / "hatchet-lite")
    assert sources(find(None, None, {"PATH": str(tmp_path / "bin")}, processes)) == [("PATH", "real")]


def test_nothing_at_hand(processes: FakeProcesses) -> None:
    assert find(None, None, {"PATH": ""}, processes) == []


def test_an_import_goes_into_the_cache_once(tmp_path: Path, processes: FakeProcesses, own_cache: Path) -> None:
    source = make(tmp_path / "engine", processes)
    (source / "static-assets" / "js").mkdir(parents=True)
    (source / "static-assets" / "index.html").write_text("page")
    (source / "static-assets" / "js" / "app.js").write_text("code")
    (source / "notes.txt").write_text("not part of an engine")
    target = own_cache / "v0.107.2"
    processes.programs[str(target / "hatchet-lite")] = "v0.107.2\n"
    engine, new = import_engine(source, processes)
    assert new
    assert engine == EngineBinaries(target, "engine cache", "v0.107.2", target / "static-assets")
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == [
        "hatchet-admin", "hatchet-lite", "hatchet-migrate", "static-assets/index.html", "static-assets/js/app.js",
    ]  # fmt: skip
    assert (target / "hatchet-lite").stat().st_mode & 0o111
    assert import_engine(source, processes) == (engine, False)
    assert [p.name for p in own_cache.iterdir()] == ["v0.107.2"]


def test_another_build_of_the_same_version_replaces_the_first(
    tmp_path: Path, processes: FakeProcesses, own_cache: Path
) -> None:
    target = make(own_cache / "v0.107.2", processes, content=b"#!/bin/old\n")
    source = make(tmp_path / "engine", processes)
    _, new = import_engine(source, processes)
    assert new
    assert (target / "hatchet-admin").read_bytes() == SCRIPT + b"hatchet-admin"
    assert [p.name for p in own_cache.iterdir()] == ["v0.107.2"]


@pytest.mark.parametrize("there", [False, True])
def test_an_import_that_fails_leaves_the_cache_as_it_was(
    there: bool, tmp_path: Path, processes: FakeProcesses, own_cache: Path
) -> None:
    source = make(tmp_path / "engine", processes)
    target = own_cache / "v0.107.2"
    if there:
        make(target, processes, content=b"#!/bin/old\n")

    def vanishing(argv: Sequence[str]) -> Ran:
        (source / "hatchet-migrate").unlink()
        return Ran(tuple(argv), 0, "v0.107.2\n", "", 0.0)

    processes.programs[str(source / "hatchet-lite")] = vanishing
    with pytest.raises(EngineUnusable) as caught:
        import_engine(source, processes)
    assert (caught.value.code, caught.value.exit_code) == ("engine-import", 3)
    assert str(own_cache) in str(caught.value)
    assert [p.name for p in own_cache.iterdir()] == (["v0.107.2"] if there else [])
    if there:
        assert (target / "hatchet-lite").read_bytes() == b"#!/bin/old\nhatchet-lite"


def test_an_import_of_what_is_no_engine(tmp_path: Path, processes: FakeProcesses, own_cache: Path) -> None:
    with pytest.raises(EngineUnusable) as caught:
        import_engine(tmp_path / "gone", processes)
    assert caught.value.code == "engine-missing"
    assert not own_cache.exists()


def test_a_cache_that_cannot_be_made(tmp_path: Path, processes: FakeProcesses, own_cache: Path) -> None:
    source = make(tmp_path / "engine", processes)
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text("a file in the cache's place")
    with pytest.raises(EngineUnusable) as caught:
        import_engine(source, processes)
    assert caught.value.code == "engine-import"
    assert own_cache.read_text() == "a file in the cache's place"
