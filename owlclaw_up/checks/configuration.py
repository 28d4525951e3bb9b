"""The dotenv file: can it be edited, does it say what the next `up` would write, who else may read it, what wins over it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from owlclaw_up import dotenv_text
from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Seen, of_error, ok
from owlclaw_up.checks.shadows import shadow_findings
from owlclaw_up.design import check_env_file
from owlclaw_up.errors import EnvFileRefused
from owlclaw_up.facts.tokens import TOKEN_KEYS
from owlclaw_up.facts.values import DotenvLook, EnvPlaces
from owlclaw_up.model import Action, found
from owlclaw_up.setting_values import ENV_KEYS
from owlclaw_up.steps.dotenv import OTHERS, SECRET_KEYS, CloseDotenv, env_values, not_ignored

_SHOWN = 4
_CRLF, _LF = re.compile(rb"\r\n"), re.compile(rb"(?<!\r)\n")


def _names(evidence: Evidence, keys: Sequence[str]) -> list[str]:
    """Keys under the names that the user wants for them."""
    return [evidence.settings.env_names.value.get(key, key) for key in keys]


def _written(evidence: Evidence) -> DotenvLook | None:
    """The dotenv file, where it is one that can be read."""
    look = found(evidence.facts.dotenv)
    return look if look is not None and look.kind == "file" and not look.error else None


def _has_ours(evidence: Evidence) -> bool:
    look = _written(evidence)
    return look is not None and any(look.values.get(name) for name in _names(evidence, ENV_KEYS))


def _wanted(evidence: Evidence) -> dict[str, str] | None:
    """What the next `up` would write of an environment that it leaves as it is; None where that is not known.

    Where ports or passwords move first, the file is right until then.
    """
    spec, token = evidence.spec, evidence.ledger.vault.token
    moves = [p for p in evidence.planned if p.id == "project" and p.change.action is Action.UPDATE]
    if spec is None or moves or (spec.engine is not None and not token):
        return None
    return env_values(spec, token if spec.engine else "")


def _file(evidence: Evidence) -> Iterator[Seen]:
    try:
        check_env_file(evidence.facts)
    except EnvFileRefused as refused:
        yield of_error(refused)
    else:
        look = found(evidence.facts.dotenv)
        yield ok(f"{look.path.name} can be edited" if look is not None and look.kind == "file" else "none is there yet")


def _missing(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.dotenv)
    if not evidence.standing or look is None or (look.kind != "missing" and _written(evidence) is None):
        return
    if _has_ours(evidence):
        yield ok(f"{look.path.name} has our keys")
        return
    gone = look.kind == "missing"
    title = f"{look.path} is gone" if gone else f"{look.path} has none of the keys that up wrote"
    yield Seen(
        "fail", title, f"expected there: {', '.join(_names(evidence, ENV_KEYS)[:_SHOWN])}, ...", UP, UP,
        Fix(f"write {look.path.name} again", up=True),
    )  # fmt: skip


def _permissions(evidence: Evidence) -> Iterator[Seen]:
    look = _written(evidence)
    secrets = look and [name for name in _names(evidence, sorted(SECRET_KEYS)) if look.values.get(name)]
    if look is None or not secrets or not evidence.standing:
        return
    if not look.mode & OTHERS:
        yield ok(f"{look.path.name} is its owner's alone")
        return
    mend = f"chmod 600 {shlex.quote(str(look.path))}"
    yield Seen(
        "warn", f"others on this machine may read {look.path.name}, which holds secrets",
        f"its rights are {look.mode:04o}; it has {', '.join(secrets)}", mend, mend,
        Fix(f"set the rights of {look.path.name} to 0600", (CloseDotenv(look.path),)),
    )  # fmt: skip


def _ignored(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.dotenv)
    # One that is tracked is never ignored, and stops `up`.
    if look is None or look.ignored is None or look.tracked:
        return
    if look.ignored:
        yield ok(f"git ignores {look.path.name}")
        return
    said = not_ignored(look.path)
    level, title = (
        (said.level, said.title) if _has_ours(evidence) else ("info", f"git would not ignore {look.path.name}")
    )
    yield Seen(level, title, f"git check-ignore {look.path.name} says no", said.hint, said.command)


def _backup(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.dotenv)
    backup = look.backup if look else None
    if backup is None or backup.ignored is None:
        return
    if backup.ignored:
        yield ok(f"git ignores {backup.path.name}")
        return
    line = f"echo {shlex.quote(backup.path.name)} >> .gitignore"
    yield Seen(
        "warn", f"git does not ignore {backup.path.name}, the copy of your file from before the first up",
        f"it has values of {_some(backup.keys)}", line, line,
    )  # fmt: skip


def _stale(evidence: Evidence) -> Iterator[Seen]:
    look, wanted = _written(evidence), _wanted(evidence)
    if not evidence.standing or look is None or wanted is None or not _has_ours(evidence):
        return
    tokens, (api_token,) = _names(evidence, TOKEN_KEYS), _names(evidence, ("HATCHET_API_TOKEN",))
    with_token = evidence.spec is not None and evidence.spec.engine is not None
    # A token that is there and another one has checks of its own.
    # Without an engine there is no such token, so that test suites which skip without one do skip.
    differ = [
        key
        for key, value in {api_token: "", **wanted}.items()
        if look.values.get(key, "") != value and not (with_token and key in tokens and look.values.get(key))
    ]
    if not differ:
        yield ok(f"{look.path.name} says what up would write")
        return
    gone = [key for key in differ if not look.values.get(key)]
    detail = f"not there, or empty: {', '.join(gone)}" if gone else "programs that read it go elsewhere"
    title = f"{look.path.name} has another value than up would write for {_some(differ)}"
    yield Seen("warn", title, detail, UP, UP, Fix(f"write {look.path.name} again", up=True))


def _of_shadows(evidence: Evidence, name: str, well: str) -> Iterator[Seen]:
    """The findings about places and keys that carry this id.

    Args:
        well: what is said where there are none.
    """
    places = found(evidence.facts.shadows) or EnvPlaces()
    path = evidence.facts.project / evidence.settings.env_file.value
    said = [f for f in shadow_findings(places, path, _programs_get(evidence)) if f.id == name]
    # Before the first up nobody has been told to read our values.
    yield from (Seen(f.level if evidence.standing else "info", f.title, f.detail, f.hint, f.command) for f in said)
    if not said and evidence.standing:
        yield ok(well)


def _programs_get(evidence: Evidence) -> Mapping[str, str] | None:
    """What programs should get, by key; None for what the file says."""
    if evidence.standing or evidence.spec is None:
        return _wanted(evidence)
    return env_values(evidence.spec, "")


def _line_ends(evidence: Evidence) -> Iterator[Seen]:
    look = _written(evidence)
    if look is None:
        return
    crlf, lf = len(_CRLF.findall(look.data)), len(_LF.findall(look.data))
    ends = [key for key, value in look.values.items() if value.endswith("\r")] or _before_crlf(look.data)
    if not crlf and not ends:
        yield ok(f"every line of {look.path.name} ends in LF")
        return
    name = look.path.name
    title = f"{name} mixes line ends: {crlf} in CRLF, {lf} in LF" if crlf and lf else f"the lines of {name} end in CRLF"
    if not crlf:
        title = f"{name} has values that end in a carriage return"
    detail = f"a shell, docker and compose hand it on at the end of {_some(ends)}" if ends else ""
    mend = f"perl -pi -e 's/\\r$//' {shlex.quote(str(look.path))}"
    # A file of one kind was made so on purpose; Python reads it as it is meant.
    level = "warn" if evidence.standing and (lf or not crlf) else "info"
    yield Seen(level, title, detail, f"save it with LF: {mend}", mend)


def _before_crlf(data: bytes) -> list[str]:
    """Keys whose value a reader that knows LF alone takes with a carriage return."""
    lines = data.splitlines(keepends=True)
    return list(dict.fromkeys(a.key for a in dotenv_text.parse(data) if lines[a.line - 1].endswith(b"\r\n")))


def _some(keys: Sequence[str]) -> str:
    more = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


_LOOKS = ("dotenv",)
_WRONG_PROGRAM = "`invalid auth token`, `connection refused`, or work that goes to another server"
CHECKS: tuple[Check, ...] = (
    Check(
        "env.file", "the dotenv file can be edited", "`up` ends with exit 3: `is not touched`",
        "git tracks it, or it is a folder, read-only, not UTF-8, or has a quote that is not closed",
        "up writes secrets into it, and changes nothing else", "what the finding says; or another file: --env-file PATH",
        _file, _LOOKS,
    ),
    Check(
        "env.missing", "the dotenv file has our keys", "programs say that a token or a URL is not set",
        "it was removed, replaced from a template, or another one is named by `env_file`",
        "programs find the environment by it", UP, _missing, _LOOKS, ("env.file",), fixable=True,
    ),
    Check(
        "env.permissions", "the dotenv file is its owner's alone", "`ls -l .env` shows `r` for group or others",
        "it was copied, or an editor wrote it anew", "it holds the token and database passwords", "chmod 600 .env",
        _permissions, _LOOKS, fixable=True,
    ),
    Check(
        "env.ignored", "git ignores the dotenv file", "`git status` lists it", "no line of .gitignore names it",
        "secrets that were pushed are not secret any more", "echo .env >> .gitignore", _ignored, _LOOKS,
    ),
    Check(
        "env.backup", "git ignores the copy of the dotenv file", "`git status` lists `.env.owlclaw-up.bak`",
        "a line for `.env` in .gitignore does not cover it", "it holds what the file held before, secrets too",
        "echo .env.owlclaw-up.bak >> .gitignore", _backup, _LOOKS,
    ),
    Check(
        "env.stale", "the dotenv file says what up would write", _WRONG_PROGRAM,
        "it was edited, restored from a copy, or a setting has changed since", "programs read it, not what runs", UP,
        _stale, _LOOKS, ("env.file", "env.missing", "token.none"), fixable=True,
    ),
    Check(
        "env.shadow", "nothing wins over the dotenv file", _WRONG_PROGRAM + ", whatever .env says",
        "a variable of the shell, or a line of .env.hatchet, .env.dev or .env.local, has another value",
        "programs go to another server than the one that was proved", "unset NAME, or remove the line that is named", partial(_of_shadows, name="env.shadow", well="nothing wins over the dotenv file"), ("shadows",),
        ("env.file", "env.missing"),
    ),
    Check(
        "env.elsewhere", "programs started here read the dotenv file", "programs find no token",
        "hatchet-sdk looks for .env in the working directory only", "nothing of the environment reaches them",
        "start them in the project", partial(_of_shadows, name="env.elsewhere", well="programs that are started here read the dotenv file"), ("shadows",),
    ),
    Check(
        "env.duplicates", "every key stands in the dotenv file once", "an edit of `.env` has no effect",
        "it was added a second time; the last one counts", "the line that is seen first is not the one that is read",
        "remove the lines that are named", partial(_of_shadows, name="env.duplicates", well="no key stands there twice"), ("shadows",),
    ),
    Check(
        "env.line-ends", "the dotenv file has one kind of line ends", "`\\r: command not found`, or a URL with `%0D` at its end",
        "an editor of Windows, or git with core.autocrlf, has rewritten some of its lines",
        "Python reads it all the same, and shells do not", "perl -pi -e 's/\\r$//' .env", _line_ends, _LOOKS, ("env.file",),
    ),
)  # fmt: skip
