"""What a report takes from files: foreign words cleaned, secrets that only a damaged state or the environment knows, keys alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from owlclaw_up.redaction import MASK, Redactor
from owlclaw_up.report_files import TAIL, clean, masked_json, raw_texts, secret_texts, tails
from tests.unit.fakes import make_host, make_token

CLEANED = [
    ("plain text, täglich 数据库", "plain text, täglich 数据库"),
    ("\x1b[90m2:45AM\x1b[0m \x1b[32mINF\x1b[0m ready", "2:45AM INF ready"),
    ("\x1b]0;title\x07prompt", "prompt"),
    ("a\x00b\x08c\x7fd\r", "abcd"),
    ("a\tb\nc", "a\tb\nc"),
    ("safe\u202eelif\u2069", "safeelif"),
]


@pytest.mark.parametrize(("text", "shown"), CLEANED)
def test_control_sequences_go(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_colour_in_the_middle_hides_no_secret() -> None:
    assert Redactor(["geheim-wort"])(clean("geheim\x1b[31m-wort")) == MASK


def secrets(root: Path, environ: Mapping[str, str] | None = None) -> set[str]:
    return set(secret_texts(make_host(environ), root, Path(".env")))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


VAULT = {"passwords": {"owlclaw": "geheim-passwort"}, "engine": {"master": "geheim-keyset"}, "token": "geheim-token"}


def test_secrets_of_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / ".owlclaw-up/secrets.json", json.dumps(VAULT))
    assert {"geheim-passwort", "geheim-keyset", "geheim-token"} <= secrets(tmp_path)


@pytest.mark.parametrize("length", [45, 60, 75, 90, 105])
def test_secrets_of_a_file_that_is_cut_off(length: int, tmp_path: Path) -> None:
    text = json.dumps(VAULT, indent=1)[:length]
    write(tmp_path / ".owlclaw-up/secrets.json", text)
    for secret in ("geheim-passwort", "geheim-keyset", "geheim-token"):
        cut = text[text.index(secret) :].partition('"')[0] if secret in text else ""
        assert not cut or cut in secrets(tmp_path)
    assert "passwords" not in secrets(tmp_path)


def test_no_file_no_secret(tmp_path: Path) -> None:
    assert secrets(tmp_path) == set()
    write(tmp_path / ".owlclaw-up/secrets.json", '{"passwords": 5}')
    write(tmp_path / ".env", "A='unterminated\n")
    assert secrets(tmp_path) == set()


def test_secrets_that_were_never_ours(tmp_path: Path) -> None:
    write(
        tmp_path / ".env",
        "OPENAI_API_KEY=sk-geheim-1\nREDIS_URL=redis://:geheim%402@h:1/0\nTOKEN=short\nNAME=ordinary-value\n",
    )
    found = secrets(
        tmp_path, {"GITHUB_TOKEN": "ghp-geheim-3", "PGPASSWORD": "geheim-4", "DATABASE_URL": "pg://u:postgres@h/d"}
    )
    assert {"sk-geheim-1", "geheim%402", "geheim@2", "ghp-geheim-3", "geheim-4"} == found


def test_what_would_mask_ordinary_words_is_no_secret(tmp_path: Path) -> None:
    """As services of a CI job are set up: their passwords are the words that every line has."""
    environ = {
        "POSTGRES_PASSWORD": "postgres", "PGPASSWORD": "password", "AMQP": "amqp://guest:guest@h", "REDIS": "redis://:test@h",
        "DATABASE_URL": "postgresql://application:application@h/d",
    }  # fmt: skip
    assert secrets(tmp_path, environ) == set()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    found = secrets(tmp_path, {"A_TOKEN": "geheim-\udcff-wort"})
    assert found == {"geheim-\ufffd-wort"}
    assert Redactor(found)("x geheim-\ufffd-wort") == f"x {MASK}"


def test_the_end_of_every_log(tmp_path: Path) -> None:
    write(tmp_path / ".owlclaw-up/logs/up.log", "\n".join(f"\x1b[1mline {n}\x1b[0m" for n in range(100)))
    write(tmp_path / ".owlclaw-up/logs/hatchet.log", "one\n")
    made = {tail.name: tail for tail in tails(make_host(), tmp_path, None)}
    assert set(made) == {"up.log", "hatchet.log"}
    assert (len(made["up.log"].lines), made["up.log"].cut) == (TAIL, True)
    assert made["up.log"].lines[-1] == "line 99"
    assert (made["hatchet.log"].lines, made["hatchet.log"].cut) == (("one",), False)


def test_a_log_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / ".owlclaw-up/logs/up.log").mkdir(parents=True)
    (tail,) = tails(make_host(), tmp_path, None)
    assert tail.why == "Is a directory"


def test_raw_texts_are_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / ".owlclaw-up/state.json", '{"cut')
    write(tmp_path / ".owlclaw-up/logs/up.log", "a\nb\n")
    assert raw_texts(make_host(), tmp_path, None, None) == {"state.json": '{"cut', "logs/up.log": "a\nb"}


def test_json_is_masked_text_by_text_and_damaged_json_as_it_stands() -> None:
    redact, token = Redactor(["geheim"]), make_token()
    text = json.dumps({"detail": 'password="geheim"', "list": [token, 5]})
    assert json.loads(masked_json(text, redact)) == {"detail": f"password={MASK}", "list": [MASK, 5]}
    assert masked_json(f'{{"detail": "geheim {token}', redact) == f'{{"detail": "{MASK} {MASK}'
