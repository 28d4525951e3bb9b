"""The documentation lags behind nothing: commands, options, settings, errors, dependencies, links, `.env.example`."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from docs import faults
from owlclaw_up import dotenv_text
from owlclaw_up.host.base import ServerLogin
from owlclaw_up.model import Mode, Secret
from owlclaw_up.modes import MODES
from owlclaw_up.settings import ENV_PREFIX, KEYS, Settings
from owlclaw_up.spec import DatabaseSpec, Ports, PostgresSpec, StackSpec
from owlclaw_up.steps.dotenv import env_values
from owlclaw_up.steps.engine_env import _SYMPTOMS

with warnings.catch_warnings():
    # typer imports names that click has deprecated since.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

    from owlclaw_up.cli.main import app
    from owlclaw_up.cli.options import SHARED_FLAGS, SHARED_VALUES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "owlclaw_up"
PAGES = sorted(
    [*DOCS.rglob("*.md"), *(ROOT / "templates").rglob("*.md"), *ROOT.glob("[A-Z]*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)  # fmt: skip
ERROR_CALLS = {
    "ApplyFailed",
    "BundleUnusable",
    "DumpUnusable",
    "EngineUnusable",
    "MigrationsUnusable",
    "PostgresUnusable",
    "PrefetchFailed",
    "RemoteUnusable",
    "refused",
}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def sections(page: Path) -> dict[str, str]:
    """The text below each heading of the second level."""
    parts = re.split(r"^## (.+)$", read(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from commands(inner, f"{name} {word}".strip())
    else:
        yield name, command


COMMANDS = dict(commands(typer.main.get_command(app)))
IN_COMMANDS_PAGE = sections(DOCS / "reference" / "commands.md")
SHARED_SECTION = IN_COMMANDS_PAGE["Options of every command"]


def options(text: str) -> set[str]:
    """Options in the first cell of a table's rows."""
    rows = re.findall(r"^\| (.*?[^\\]) \|", text, flags=re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`(--?[a-z][a-z-]*)", row)}


def links(page: Path) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", read(page)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", read(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


def test_every_command_has_a_section_and_no_section_is_left_over() -> None:
    assert set(IN_COMMANDS_PAGE) == {*COMMANDS, "Options of every command"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_each_argument_and_option_is(name: str) -> None:
    assert not [p.name for p in COMMANDS[name].params if not p.help]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_documents_exactly_its_options(name: str) -> None:
    declared = {o for p in COMMANDS[name].params for o in p.opts if p.param_type_name == "option"}
    shared = options(SHARED_SECTION) - {"--help"}
    assert shared == SHARED_FLAGS | SHARED_VALUES
    assert shared <= declared, "every command takes the shared options"
    assert options(IN_COMMANDS_PAGE[name]) == declared - shared


def test_arguments_are_documented() -> None:
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                wanted = parameter.metavar.replace("|", r"\|")
                assert f"`{wanted}`" in IN_COMMANDS_PAGE[name]


def test_the_readme_names_every_command() -> None:
    for name in COMMANDS:
        assert f"`{name}`" in read(ROOT / "README.md")


def test_settings_are_those_of_the_code_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+?) \|", read(DOCS / "reference" / "settings.md"), re.MULTILINE)
    assert [key for key, _, _ in rows] == list(KEYS)
    by_key = {f.name: f for f in fields(Settings)}
    for key, variable, shown in rows:
        assert variable == ENV_PREFIX + key.upper()
        default = getattr(Settings(), key).value
        if shown == "none":
            assert not default, f"{key} has a default: {default!r}"
        else:
            parse = by_key[key].metadata["parse"]
            assert parse(shown.strip("`")) == default, key


def error_codes() -> set[str]:
    """Every code that stands in the package as a literal: of classes, and of errors that are given theirs."""
    found = {symptom[1] for symptom in _SYMPTOMS}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(read(file))):
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                        found.add(ast.literal_eval(line.value))
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = ast.unparse(node.func).rpartition(".")[2]
                above = file.name == "errors.py" and called == "__init__"
                text = str(node.args[0].value)
                if (called in ERROR_CALLS or above) and re.fullmatch(r"[a-z]+(-[a-z]+)*", text):
                    found.add(text)
    return found


def test_every_error_code_is_documented() -> None:
    page = read(DOCS / "reference" / "errors.md")
    rows = re.findall(r"^\| (`.+?) \|", page, flags=re.MULTILINE)
    documented = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}
    codes = error_codes()
    assert {"usage", "port-taken", "timeout", "no-environment"} <= codes, "the search still finds what there is"
    assert codes <= documented, f"docs/reference/errors.md lacks {sorted(codes - documented)}"


def test_the_page_of_faults_is_made_from_the_checks() -> None:
    assert faults.PAGE.read_text(encoding="utf-8") == faults.page(), "make faults"


def test_exit_codes_are_documented() -> None:
    from owlclaw_up import errors

    page = read(DOCS / "reference" / "exit-codes.md")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)}
    used = {
        value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int) and name != "UTC"
    }
    assert documented == {0, 1, *used}


def test_every_mode_is_documented() -> None:
    for page in (ROOT / "README.md", DOCS / "reference" / "modes.md"):
        documented = set(re.findall(r"^\| `([a-z-]+)` \|", read(page), flags=re.MULTILINE))
        assert {mode.value for mode in MODES} <= documented


def test_every_dependency_has_its_reason() -> None:
    listed = re.search(r"^dependencies = \[(.+?)^\]", read(ROOT / "pyproject.toml"), re.MULTILINE | re.DOTALL)
    assert listed is not None
    declared = re.findall(r'^\s*"([a-z0-9-]+(?:\[binary\])?)', listed[1], flags=re.MULTILINE)
    documented = re.findall(r"^\| `([^`]+)` \|", read(DOCS / "explanation" / "dependencies.md"), flags=re.MULTILINE)
    assert sorted(documented) == sorted(declared)


def test_the_pytest_page_names_what_the_plugin_has() -> None:
    declared: dict[str, set[str]] = {"Fixtures": set(), "Ini options": set(), "Option": set(), "Marks": set()}
    for node in ast.walk(ast.parse(read(PACKAGE / "pytest_plugin.py"))):
        if isinstance(node, ast.FunctionDef) and any("pytest.fixture" in ast.unparse(d) for d in node.decorator_list):
            declared["Fixtures"] |= {node.name} - {"_owlclaw_databases"}
        if isinstance(node, ast.Call):
            called, words = ast.unparse(node.func).rpartition(".")[2], [ast.unparse(a).strip("'") for a in node.args]
            section = {"addini": "Ini options", "addoption": "Option"}.get(called)
            if section:
                declared[section].add(words[0])
            if called == "addinivalue_line":
                declared["Marks"].add(re.split(r"\W", words[1])[0])
    page = sections(DOCS / "reference" / "pytest.md")
    for section, names in declared.items():
        assert names, section
        assert set(re.findall(r"^\| `([\w-]+)` \|", page[section], flags=re.MULTILINE)) == names


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert path.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(path), f"{link}: no such heading"


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    todo = [DOCS / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        todo += [page.parent / link.partition("#")[0] for link in links(page) if not link.startswith("#")]
    assert {p.resolve() for p in DOCS.rglob("*.md")} <= reached


def test_the_readme_begins_with_the_two_commands() -> None:
    first_screen = read(ROOT / "README.md").splitlines()[:12]
    for command in ("make bootstrap", "make test"):
        assert any(re.search(rf"\b{command}\b", line) for line in first_screen)
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), flags=re.MULTILINE))
    assert {"bootstrap", "test", "lint", "types"} <= targets


def a_spec() -> StackSpec:
    """Any environment with default ports: which keys there are depends on nothing else."""
    databases = tuple(DatabaseSpec(name, name, Secret(name)) for name in ("hatchet", "owlclaw"))
    return StackSpec(
        project=ROOT, state_dir=ROOT / ".owlclaw-up", mode=Mode.NATIVE,
        ports=Ports(8888, 17077, 5432, 18080, 18081, 18733),
        postgres=PostgresSpec("embedded", ServerLogin("127.0.0.1", 5432, "postgres"), "embedded", 200),
        databases=databases, engine=None, env_path=ROOT / ".env", env_names={}, server_url_is="rest",
        token_lifetime_hours=8760, smoke="quick", smoke_again=False, timeout=180,
    )  # fmt: skip


def test_the_example_has_exactly_the_keys_that_are_written() -> None:
    data = (ROOT / ".env.example").read_bytes()
    written = env_values(a_spec(), "eyJ...")
    active = dotenv_text.values(data)
    commented = set(re.findall(r"^# ([A-Z_]+)=", data.decode(), flags=re.MULTILINE))
    assert set(active) | commented == set(written)
    assert not set(active) & commented
    assert all(active.values()), "a blank key breaks applications that read it as a number"
    # With default ports and the passwords of deploy/init-db.sql.
    assert active == {key: written[key] for key in active}
    assert commented == {"HATCHET_API_TOKEN", "HATCHET_CLIENT_TOKEN"}


def test_the_dotenv_page_has_the_same_keys() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", read(DOCS / "reference" / "env-file.md"), flags=re.MULTILINE)
    assert rows == list(env_values(a_spec(), "eyJ..."))


def test_pages_show_no_paths_of_a_workshop() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(work|root|opt)/", read(page)), page
