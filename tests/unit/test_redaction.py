"""Secrets in foreign words: known ones and known shapes go, ordinary text stays."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owlclaw_up.model import Finding, Mode
from owlclaw_up.redaction import MASK, Redactor
from tests.unit.fakes import make_token

# The mask's own character is left out: a secret of nothing but stars cannot be told from the mask.
SECRETS = st.text(min_size=4, max_size=40).filter(lambda text: "*" not in text)
KEYSET = "eyJwcmltYXJ5S2V5SWQiOjE5NTQw" + "QUJDRGVmZ2hpamtsbW5vcA" * 12 + "=="


@settings(max_examples=80, deadline=None)
@given(st.lists(SECRETS, min_size=1, max_size=4), st.text(max_size=30), st.text(max_size=30))
def test_no_known_secret_survives(secrets: list[str], before: str, after: str) -> None:
    redact = Redactor(secrets)
    text = before + after.join(secrets) + " ".join(quote(s, safe="") for s in secrets) + after
    shown = redact(text)
    for secret in secrets:
        assert secret not in shown
        assert quote(secret, safe="") not in shown


@settings(max_examples=50, deadline=None)
@given(SECRETS, st.text(max_size=30))
def test_what_was_masked_once_stays_as_it_is(secret: str, around: str) -> None:
    redact = Redactor([secret])
    once = redact(f"{around}{secret}{around}")
    assert redact(once) == once


@settings(max_examples=50, deadline=None)
@given(st.text(string.ascii_letters + string.digits + "!#$%&+-_~^,;:?/@", min_size=1, max_size=30))
def test_no_url_password_survives_that_nobody_knows(password: str) -> None:
    shown = Redactor()(f"could not connect to postgresql://owlclaw:{password}@localhost:5432/owlclaw")
    assert shown == f"could not connect to postgresql://owlclaw:{MASK}@localhost:5432/owlclaw"


def test_a_longer_secret_goes_before_its_part() -> None:
    assert Redactor(["pass", "pass-and-more"])("pass-and-more, pass") == f"{MASK}, {MASK}"


def test_secrets_learned_later() -> None:
    redact = Redactor()
    assert redact("hunter2hunter2") == "hunter2hunter2"
    redact.add("hunter2")
    assert redact("hunter2hunter2") == MASK * 2


def test_short_texts_are_no_secrets() -> None:
    assert Redactor(["a", "ok", "and", ""])("a cat and a dog, ok") == "a cat and a dog, ok"


def test_secrets_of_several_lines() -> None:
    assert Redactor(["first\nsecond"])("x first\nsecond y") == f"x {MASK} y"


TOKEN = make_token()
MASKED = [
    (f"minted {TOKEN}\n", f"minted {MASK}\n"),
    (f"HATCHET_CLIENT_TOKEN={TOKEN}", f"HATCHET_CLIENT_TOKEN={MASK}"),
    (f'{{"token": "{TOKEN}"}}', f'{{"token": "{MASK}"}}'),
    (f"Authorization: Bearer {TOKEN}, refused", f"Authorization: Bearer {MASK}, refused"),
    ("input_value={'token': 'eyJhbGciOiJub25lIn0.e30e'}", f"input_value={{'token': '{MASK}'}}"),
    (f"Master Key Bytes:\n{KEYSET}\n", f"Master Key Bytes:\n{MASK}\n"),
    (f"SERVER_ENCRYPTION_MASTER_KEYSET={KEYSET} x", f"SERVER_ENCRYPTION_MASTER_KEYSET={MASK} x"),
    ("amqp://user:pa:ss@rabbit:5672/", f"amqp://user:{MASK}@rabbit:5672/"),
    ("postgresql+asyncpg://u:p@ss@h/d", f"postgresql+asyncpg://u:{MASK}@h/d"),
    ("a postgres://u:one@h/d b postgres://u:two@h/d c", f"a postgres://u:{MASK}@h/d b postgres://u:{MASK}@h/d c"),
    ("redis://:secret@h", f"redis://:{MASK}@h"),
    ("host=h password=hunter2 dbname=d", f"host=h password={MASK} dbname=d"),
    ("password='with blanks' x", f"password={MASK} x"),
    ('password = "with blanks" x', f"password = {MASK} x"),
    ("?user=u&password=hunter2&sslmode=require", f"?user=u&password={MASK}&sslmode=require"),
    ("PASSWORD=hunter2", f"PASSWORD={MASK}"),
    # What is to be typed is no secret.
    ("REMOTE_PASSWORD=... owlclaw-up", "REMOTE_PASSWORD=... owlclaw-up"),
    ("PASSWORD=...hunter2", f"PASSWORD={MASK}"),
    (
        "owlclaw-up --admin-url postgresql://postgres:PASSWORD@h/d",
        "owlclaw-up --admin-url postgresql://postgres:PASSWORD@h/d",
    ),
    ("URL='postgresql://owlclaw:...@h:1/owlclaw?a=b' up", "URL='postgresql://owlclaw:...@h:1/owlclaw?a=b' up"),
    ("postgresql://u:...@hunter2@h/d", f"postgresql://u:{MASK}@h/d"),
    ("postgresql://u:PASSWORD1@h/d", f"postgresql://u:{MASK}@h/d"),
    ("passwd=hunter2 pwd=hunter2", f"passwd={MASK} pwd={MASK}"),
    ("PGPASSWORD=hunter2 psql", f"PGPASSWORD={MASK} psql"),
    ("ADMIN_PASSWORD=Admin123!!", f"ADMIN_PASSWORD={MASK}"),
    ("POSTGRES_PASSWORD='hunter2'", f"POSTGRES_PASSWORD={MASK}"),
]


@pytest.mark.parametrize(("text", "shown"), MASKED)
def test_shapes_of_secrets(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


ORDINARY = [
    "",
    "2026/11/23 01:15:10 goose: successfully migrated database to version: 20260820185000",
    "listen tcp 127.0.0.1:37077: bind: address already in use",
    "dial tcp 127.0.0.1:1: connect: connection refused",
    "failed during connect on postgres://<redacted>@127.0.0.1:1/r1?keys=tls: context deadline exceeded",
    "http://localhost:8888/api/v1/meta answers; login admin@example.com",
    "postgresql://owlclaw@localhost:5432/owlclaw",
    "git@github.com:hatchet-dev/hatchet.git",
    "password authentication failed for user \"hatchet\"",
    "the password is kept in .owlclaw-up/secrets.json",
    "OLDPWD=/home/user/app",
    "tenant 707d0855-80ab-4e1f-a156-f1c4546cbf52, until 2027-11-23",
    "a key such as eyJ is no token, nor is ey.J or keyboard.layout",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "数据库 owlclaw 已存在",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor(["a-secret-of-ours"])(text) == text


def test_every_text_within_a_value() -> None:
    redact = Redactor(["geheim"])
    finding = Finding("env.shadow", "warn", "geheim wins", detail="x=geheim")
    masked = redact.within({"geheim": ["geheim", 5, None], "mode": Mode.NATIVE, "findings": (finding,)})
    assert masked == {
        "geheim": [MASK, 5, None],
        "mode": Mode.NATIVE,
        "findings": (Finding("env.shadow", "warn", f"{MASK} wins", detail=f"x={MASK}"),),
    }
    assert type(masked["mode"]) is Mode
