"""Values elsewhere that win over the dotenv file: every command that should say so does, and names key, file and line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conftest import Cli


def shadows(document: dict[str, Any]) -> dict[str, str]:
    return {f["title"]: f["hint"] for f in document["findings"] if f["id"].startswith("env.")}


def test_every_command_says_what_wins(new_cli: Callable[..., Cli]) -> None:
    cli = new_cli(HATCHET_CLIENT_TOKEN="an-old-token-of-the-shell", DATABASE_URL="an-old-url-of-the-shell")
    (cli.root / ".env.local").write_text(
        "# mine\nHATCHET_CLIENT_HOST_PORT=elsewhere:7077\nDATABASE_URL=not-read-here\n"
    )
    expected = {
        "2 keys in the shell win over .env": "unset HATCHET_CLIENT_TOKEN DATABASE_URL",
        "HATCHET_CLIENT_HOST_PORT in .env.local, line 2 wins over .env": "remove line 2 of .env.local",
    }
    for words in (("plan",), ("up", "--smoke", "none"), ("status",), ("env", "--diff")):
        assert shadows(cli.json(*words)) == expected, words
    for words in (("status",), ("env", "--diff")):
        said = cli(*words).stdout
        for title, hint in expected.items():
            assert f"warning: {title}" in said
            assert hint in said
    assert not any("an-old-" in r.text for r in cli.history)

    # An edit in vain: the last one counts, and `up` keeps that one.
    env = cli.root / ".env"
    env.write_text("OWLCLAW_PG_PORT=1\n" + env.read_text())
    del cli.env["HATCHET_CLIENT_TOKEN"], cli.env["DATABASE_URL"]
    (cli.root / ".env.local").unlink()
    twice = shadows(cli.json("up", "--smoke", "none"))
    assert [hint for title, hint in twice.items() if "more than one OWLCLAW_PG_PORT" in title] == [
        "remove line 1 of .env"
    ]
    env.write_text(env.read_text().partition("\n")[2])
    assert shadows(cli.json("status")) == {}

    # Programs look in the working directory: from here they read nothing of it, and something else there.
    (cli.root / "src").mkdir()
    (cli.root / "src/.env").write_text("HATCHET_CLIENT_TOKEN=\n")
    from_there = shadows(cli.json("status", cwd=cli.root / "src"))
    assert from_there == {
        "HATCHET_CLIENT_TOKEN in src/.env, line 1 wins over .env": "remove line 1 of src/.env",
        f"a program that is started in {cli.root / 'src'} does not read {env}": f"start it in {cli.root}",
    }
