"""Settings: default < file < environment < flag, each value with its origin; what is wrong is said without secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import BadSetting, ProjectMissing, UnknownSetting
from owlclaw_up.model import Mode, Secret
from owlclaw_up.setting_values import DatabaseSetting, Sourced, nearest
from owlclaw_up.settings import DEFAULT_DATABASES, KEYS, Settings, find_project, load, wanted_databases

SECRET = "hunter2-Geheim"


def write(project: Path, name: str, text: str) -> None:
    (project / name).write_text(text, encoding="utf-8")


def test_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, {}, {})
    assert settings == Settings()
    assert all(getattr(settings, name).origin == "default" for name in KEYS)
    assert not any(getattr(settings, name).explicit for name in KEYS)
    assert settings.env_file.value == Path(".env")
    assert settings.hatchet_image.value == "ghcr.io/hatchet-dev/hatchet/hatchet-lite:v0.107.2"
    assert settings.postgres_image.value == "pgvector/pgvector:pg16"
    assert settings.token_lifetime.value == 8760


def test_the_contract_names_these_settings() -> None:
    assert set(KEYS) == {
        "mode", "require", "smoke", "timeout", "offline", "from_dir", "env_file", "admin_url", "engine_dir", "engines", "hatchet_image",
        "native_engine", "sidecar_version", "sidecar_binary", "sidecar_checksum",
        "postgres_image", "registry_mirror", "dashboard_port", "grpc_port", "postgres_port", "rabbitmq_url",
        "admin_password", "token_lifetime", "hatchet_server_url", "alembic_config", "databases", "env_names",
        "remote_token", "remote_token_file", "remote_url", "remote_grpc", "remote_tls", "remote_ca_file",
        "remote_server_name", "remote_cert_file", "remote_key_file", "remote_login", "remote_password", "remote_tenant", "remote_database_url",
    }  # fmt: skip


def test_each_place_wins_over_the_one_before(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"timeout": None}
    environ: dict[str, str] = {}
    seen = [load(tmp_path, environ, flags).timeout]
    write(tmp_path, "pyproject.toml", "[tool.owlclaw-up]\ntimeout = 10\n")
    seen.append(load(tmp_path, environ, flags).timeout)
    write(tmp_path, "owlclaw-up.toml", "timeout = 20\n")
    seen.append(load(tmp_path, environ, flags).timeout)
    environ["OWLCLAW_UP_TIMEOUT"] = "30"
    seen.append(load(tmp_path, environ, flags).timeout)
    flags["timeout"] = "40"
    seen.append(load(tmp_path, environ, flags).timeout)
    assert seen == [
        Sourced(180.0),
        Sourced(10.0, "file", "pyproject.toml: timeout"),
        Sourced(20.0, "file", "owlclaw-up.toml: timeout"),
        Sourced(30.0, "env", "OWLCLAW_UP_TIMEOUT"),
        Sourced(40.0, "flag", "--timeout"),
    ]
    assert [s.explicit for s in seen] == [False, True, True, True, True]


def test_a_folder_is_named_in_three_ways(tmp_path: Path) -> None:
    ways = [
        load(tmp_path, {"OWLCLAW_UP_FROM": "/media/stick"}, {}), load(tmp_path, {"OWLCLAW_UP_FROM_DIR": "/media/stick"}, {}),
        load(tmp_path, {"OWLCLAW_UP_FROM": "/else"}, {"from_dir": "/media/stick"}),
    ]  # fmt: skip
    assert {way.from_dir.value for way in ways} == {Path("/media/stick")}
    assert [way.from_dir.origin for way in ways] == ["OWLCLAW_UP_FROM", "OWLCLAW_UP_FROM_DIR", "--from"]


def test_both_files_add_up(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", '[tool.owlclaw-up]\nsmoke = "full"\nmode = "mock"\n[tool.other]\nmode = 3\n')
    write(tmp_path, "owlclaw-up.toml", 'mode = "native"\n')
    settings = load(tmp_path, {}, {})
    assert (settings.smoke.value, settings.mode.value) == ("full", Mode.NATIVE)


def test_a_pyproject_of_another_tool_is_not_even_parsed(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", "this is = = no TOML\n")
    assert load(tmp_path, {}, {}) == Settings()


def test_empty_variables_count_as_unset(tmp_path: Path) -> None:
    assert load(tmp_path, {"OWLCLAW_UP_MODE": "", "OWLCLAW_ADMIN_URL": ""}, {}) == Settings()


def test_the_documented_alias_and_its_own_name(tmp_path: Path) -> None:
    environ = {"OWLCLAW_ADMIN_URL": "postgresql://a@h/x"}
    alias = load(tmp_path, environ, {}).admin_url
    both = load(tmp_path, {**environ, "OWLCLAW_UP_ADMIN_URL": "postgresql://b@h/x"}, {}).admin_url
    assert (alias.value, alias.origin) == (Secret("postgresql://a@h/x"), "OWLCLAW_ADMIN_URL")
    assert (both.value, both.origin) == (Secret("postgresql://b@h/x"), "OWLCLAW_UP_ADMIN_URL")


def test_other_variables_are_nobody_s_business(tmp_path: Path) -> None:
    assert load(tmp_path, {"OWLCLAW_MODE": "x", "HATCHET_CLIENT_TOKEN": "y", "PATH": "z"}, {}) == Settings()


@pytest.mark.parametrize(
    ("name", "near"),
    [("mdoe", "mode"), ("dashboard_prot", "dashboard_port"), ("engine-dir", "engine_dir"), ("hatchetimage", "hatchet_image")],
)  # fmt: skip
def test_an_unknown_key_names_the_nearest(name: str, near: str, tmp_path: Path) -> None:
    write(tmp_path, "owlclaw-up.toml", f'"{name}" = "x"\n')
    with pytest.raises(UnknownSetting) as caught:
        load(tmp_path, {}, {})
    assert str(caught.value) == f"owlclaw-up.toml has a setting {name!r} that owlclaw-up does not know"
    assert caught.value.hint == f"did you mean {near!r}?"
    (tmp_path / "owlclaw-up.toml").unlink()
    variable = "OWLCLAW_UP_" + name.upper().replace("-", "_x_")
    with pytest.raises(UnknownSetting) as caught:
        load(tmp_path, {variable: "x"}, {})
    assert caught.value.hint == f"did you mean 'OWLCLAW_UP_{near.upper()}'?"
    assert caught.value.exit_code == 2


def test_an_unknown_key_like_nothing_points_to_the_list(tmp_path: Path) -> None:
    with pytest.raises(UnknownSetting) as caught:
        load(tmp_path, {"OWLCLAW_UP_ZZZQQQ": "x"}, {})
    assert caught.value.hint == "docs/reference/settings.md lists every setting"
    assert nearest("zzzqqq", KEYS) is None


GOOD: list[tuple[str, Any, Any]] = [
    ("mode", "auto", None),
    ("mode", "hatchet-only", Mode.HATCHET_ONLY),
    ("require", "durable", "durable"),
    ("smoke", "none", "none"),
    ("timeout", "2.5", 2.5),
    ("timeout", 86400, 86400.0),
    ("offline", True, True),
    ("offline", "Yes", True),
    ("offline", "off", False),
    ("env_file", "conf/dev.env", Path("conf/dev.env")),
    ("engine_dir", "", None),
    ("engine_dir", "/opt/hatchet", Path("/opt/hatchet")),
    ("alembic_config", "alembic.ini", Path("alembic.ini")),
    ("hatchet_image", "r/h:1", "r/h:1"),
    ("registry_mirror", "", ""),
    ("dashboard_port", "1", 1),
    ("grpc_port", 65535, 65535),
    ("admin_url", "", None),
    ("rabbitmq_url", "amqp://u:p@h/", Secret("amqp://u:p@h/")),
    ("admin_password", "Admin123!!", Secret("Admin123!!")),
    ("admin_password", "", None),
    ("token_lifetime", "720h", 720),
    ("token_lifetime", "90 d", 2160),
    ("token_lifetime", "1y", 8760),
    ("token_lifetime", "100y", 876000),
    ("hatchet_server_url", "grpc", "grpc"),
    ("databases", "a,b, c", tuple(DatabaseSetting(n, "") for n in "abc")),
    ("databases", [{"name": "a", "role": "b", "extensions": ["vector"]}], (DatabaseSetting("a", "b", ("vector",)),)),
    ("databases", "", ()),
    ("env_names", "DATABASE_URL=B,OWLCLAW_PG_PORT=D", {"DATABASE_URL": "B", "OWLCLAW_PG_PORT": "D"}),
    ("env_names", {"DATABASE_URL": "B"}, {"DATABASE_URL": "B"}),
    ("env_names", "", {}),
]


@pytest.mark.parametrize(("name", "raw", "value"), GOOD)
def test_good_values(name: str, raw: Any, value: Any, tmp_path: Path) -> None:
    assert getattr(load(tmp_path, {}, {name: raw}), name) == Sourced(value, "flag", "--" + name.replace("_", "-"))


BAD: list[tuple[str, Any, str]] = [
    ("mode", "nativ", "did you mean native?"),
    ("mode", 7, "one of auto, full, hatchet-only, native, mock, remote is wanted"),
    ("require", "yes", "one of , durable is wanted"),
    ("smoke", "slow", "one of quick, full, none is wanted"),
    ("timeout", "soon", "a number of seconds is wanted"),
    ("timeout", 0, "between 1 and 86400 seconds"),
    ("timeout", "nan", "between 1 and 86400 seconds"),
    ("timeout", "inf", "between 1 and 86400 seconds"),
    ("offline", "maybe", "true or false is wanted"),
    ("env_file", "", "a path is wanted"),
    ("env_file", 3, "a text is wanted"),
    ("env_file", "~nobody-of-that-name/.env", "home directory"),
    ("engine_dir", 3, "a text is wanted"),
    ("engine_dir", "~nobody-of-that-name/x", "home directory"),
    ("hatchet_image", 3, "a text is wanted"),
    ("dashboard_port", "http", "a port number is wanted"),
    ("dashboard_port", 0, "between 1 and 65535"),
    ("dashboard_port", 65536, "between 1 and 65535"),
    ("dashboard_port", True, "a port number is wanted"),
    ("dashboard_port", float("inf"), "a port number is wanted"),
    ("grpc_port", "-1", "between 1 and 65535"),
    ("postgres_port", None, ""),
    ("admin_url", 3, "a text is wanted"),
    ("admin_password", "short1A", "8 to 64 characters"),
    ("admin_password", SECRET.lower().replace("2", ""), "8 to 64 characters"),
    ("admin_password", "A1a" * 22, "8 to 64 characters"),
    ("token_lifetime", "1w", "a lifetime such as 90d"),
    ("token_lifetime", "0d", "at least one hour"),
    ("token_lifetime", "101y", "at most 100 years"),
    ("token_lifetime", "9" * 30 + "h", "at most 100 years"),
    ("hatchet_server_url", "http://x", "one of rest, grpc is wanted"),
    ("databases", 3, "a list of {name, role, extensions} is wanted"),
    ("databases", [{"role": "a"}], "each entry has a name"),
    ("databases", [{"name": "a", "owner": "b"}], "each entry has a name"),
    ("databases", ["a"], "each entry has a name"),
    ("databases", [{"name": "a", "extensions": "vector"}], "the extensions of 'a' are a list of names"),
    ("databases", [{"name": "Big"}], "'Big' is no plain lower-case name"),
    ("databases", [{"name": "a; drop"}], "no plain lower-case name"),
    ("databases", [{"name": "a", "role": "b-c"}], "no plain lower-case name"),
    ("databases", [{"name": "a" * 64}], "no plain lower-case name"),
    ("databases", [{"name": "a", "extensions": ["x'y"]}], "no plain lower-case name"),
    ("env_names", 3, "a table of NAME = OTHER_NAME is wanted"),
    ("env_names", {"DATABASE_URL": "B C"}, "'B C' is no name of an environment variable (DATABASE_URL)"),
    ("env_names", "DATABASE_URL=1B", "'1B' is no name of an environment variable (DATABASE_URL)"),
    ("env_names", {"HATCHET_API_TOKN": "B"}, "did you mean HATCHET_API_TOKEN?"),
    ("env_names", {"DATABASE_URL": "OWLCLAW_PG_PORT"}, "two keys would have one name"),
    ("env_names", "A", "a table of NAME = OTHER_NAME is wanted"),
]


@pytest.mark.parametrize(("name", "raw", "why"), [row for row in BAD if row[1] is not None])
def test_bad_values(name: str, raw: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting) as caught:
        load(tmp_path, {}, {name: raw})
    error = caught.value
    assert why in error.message
    assert f"{name} = " in error.message
    assert "(from --" in error.message
    assert (error.code, error.exit_code, error.hint) == ("bad-setting", 2, "see docs/reference/settings.md")


@pytest.mark.parametrize("name", ["admin_url", "rabbitmq_url", "admin_password"])
def test_a_refused_secret_is_not_repeated(name: str, tmp_path: Path) -> None:
    for raw in (SECRET.lower().replace("2", ""), {"x": SECRET}, [SECRET], 3):
        if name != "admin_password" and isinstance(raw, str):
            continue
        with pytest.raises(BadSetting) as caught:
            load(tmp_path, {}, {name: raw})
        text = f"{caught.value}{caught.value!r}{caught.value.hint}{caught.value.detail}"
        assert "unter" not in text
        assert f"{name} = '***'" in text


def test_a_secret_shows_itself_nowhere(tmp_path: Path) -> None:
    settings = load(
        tmp_path, {"OWLCLAW_UP_ADMIN_URL": f"postgresql://u:{SECRET}@h/x"}, {"admin_password": "Admin123!!"}
    )
    assert SECRET not in repr(settings)
    assert "Admin123!!" not in repr(settings)


def test_two_servers_cannot_have_one_port(tmp_path: Path) -> None:
    with pytest.raises(
        BadSetting, match=r"grpc_port = '9000' \(from OWLCLAW_UP_GRPC_PORT\).*--dashboard-port names the"
    ):
        load(tmp_path, {"OWLCLAW_UP_GRPC_PORT": "9000"}, {"dashboard_port": "9000"})


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("owlclaw-up.toml", "mode = \n", "it is not TOML"),
        ("owlclaw-up.toml", "mode = 'native'\nmode = 'mock'\n", "it is not TOML"),
        ("pyproject.toml", "[tool.owlclaw-up\n", "it is not TOML"),
        ("pyproject.toml", "[tool]\nowlclaw-up = 3\n", "a table is wanted: [tool.owlclaw-up]"),
        ("pyproject.toml", "tool = 'owlclaw-up'\n", "a table is wanted: [tool.owlclaw-up]"),
    ],
)
def test_bad_files(name: str, text: str, why: str, tmp_path: Path) -> None:
    write(tmp_path, name, text)
    with pytest.raises(BadSetting) as caught:
        load(tmp_path, {}, {})
    assert why in caught.value.message
    assert str(tmp_path / name) in caught.value.message


def test_a_file_that_is_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "owlclaw-up.toml").mkdir()
    assert load(tmp_path, {}, {}) == Settings()


def test_wanted_databases_put_the_user_s_over_the_defaults(tmp_path: Path) -> None:
    write(
        tmp_path,
        "owlclaw-up.toml",
        '[[databases]]\nname = "owlclaw"\nrole = "app"\n\n[[databases]]\nname = "extra"\nextensions = ["vector"]\n',
    )
    assert wanted_databases(load(tmp_path, {}, {})) == (
        DatabaseSetting("hatchet", "hatchet"),
        DatabaseSetting("owlclaw", "app", ("vector", "pgcrypto")),
        DatabaseSetting("extra", "extra", ("vector",)),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("langfuse", [("langfuse", "langfuse", ())]),
        ("owlclaw_test", [("owlclaw_test", "owlclaw", ("vector", "pgcrypto"))]),
        ("hatchet_test", [("hatchet_test", "hatchet", ())]),
        ("other_test", [("other_test", "other_test", ())]),
        # The base may come after what is taken from it, where it overrides a default.
        (
            [{"name": "owlclaw_test"}, {"name": "owlclaw", "role": "app", "extensions": ["vector"]}],
            [("owlclaw", "app", ("vector",)), ("owlclaw_test", "app", ("vector",))],
        ),
        (
            [{"name": "scratch", "role": "owlclaw"}, {"name": "bare", "role": "bare"}],
            [("scratch", "owlclaw", ("vector", "pgcrypto")), ("bare", "bare", ())],
        ),
        (
            [{"name": "owlclaw_test", "role": "tester", "extensions": ["pg_trgm"]}],
            [("owlclaw_test", "tester", ("pg_trgm",))],
        ),
    ],
)
def test_a_database_takes_what_it_does_not_say_from_its_base(
    tmp_path: Path, given: object, expected: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    wanted = wanted_databases(load(tmp_path, {}, {"databases": given}))
    assert [(d.name, d.role, d.extensions) for d in wanted if d not in DEFAULT_DATABASES] == expected


def test_the_project_is_the_nearest_parent_with_a_mark(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "outer" / ".git").mkdir()
    assert find_project(inner, None) == (tmp_path / "outer").resolve()
    (tmp_path / "outer" / "inner" / "pyproject.toml").touch()
    assert find_project(inner, None) == (tmp_path / "outer" / "inner").resolve()
    assert find_project(inner, tmp_path) == tmp_path.resolve()


def test_a_project_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "gone", "does not exist"), (tmp_path / "file", "is a file, not a folder")):
        with pytest.raises(ProjectMissing) as caught:
            find_project(tmp_path, path)
        assert (str(caught.value), caught.value.exit_code) == (f"the project directory {path} {why}", 2)
