"""The tokens that programs use: what `token check` says of them, each reason as a check of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Look, Seen, ok
from owlclaw_up.checks.tokens import token_findings
from owlclaw_up.facts.tokens import TokenFacts
from owlclaw_up.model import Finding, found

# Judged once, and asked by every check here.
_judged = functools.lru_cache(maxsize=1)(token_findings)
_ROTATE = f"{UP} token rotate"
_NOBODY = ("engine.running", "engine.database", "engine.api", "engine.grpc")
# What `up` says of a token for a server elsewhere, and of that server.
_ELSEWHERE = ("remote.token", "remote.reach", "remote.tls")


def findings_of(evidence: Evidence) -> tuple[Finding, ...]:
    """Everything there is to say of the tokens in use, and of the engine as their programs find it."""
    facts = _facts(evidence)
    return _judged(facts, Path(evidence.settings.env_file.value).name) if facts else ()


def seen_of(finding: Finding) -> Seen:
    fix = Fix("run owlclaw-up", up=True) if finding.command == UP else None
    return Seen(finding.level, finding.title, finding.detail, finding.hint, finding.command, fix)


def _facts(evidence: Evidence) -> TokenFacts | None:
    return found(evidence.facts.tokens) if evidence.standing and evidence.with_engine else None


def _check(
    id: str, title: str, symptom: str, cause: str, why: str, mend: str = UP, *, asked: bool = False,
    after: tuple[str, ...] = (), fixable: bool = True, judged: bool = True,
) -> Check:  # fmt: skip
    """A check for one reason.

    Args:
        asked: whether only an engine that answers can show it.
        judged: whether a server elsewhere would refuse such a one, so that `remote.token` speaks of it.
    """
    return Check(
        id, title, symptom, cause, why, mend, _look(id, title, asked=asked), ("tokens",),
        (*(_ELSEWHERE if judged else ()), *after), fixable=fixable
    )  # fmt: skip


def _look(id: str, fine: str, *, asked: bool) -> Look:
    def look(evidence: Evidence) -> Iterator[Seen]:
        facts = _facts(evidence)
        if facts is None:
            return
        seen = [seen_of(finding) for finding in findings_of(evidence) if finding.id == id]
        yield from seen
        if not seen and any(use.grpc and use.grpc.state == "ok" if asked else use.token for use in facts.uses):
            yield ok(fine)

    return look


CHECKS: tuple[Check, ...] = (
    _check(
        "token.none", "the dotenv file gives programs a token", "`API token is required`, `Token must be set`",
        "the dotenv file has lost its keys, or an empty value in the shell or in `.env.local` wins over it",
        "hatchet-sdk cannot even be constructed without one",
        after=("env.file", "env.missing", "environment.begun"), judged=False,
    ),
    _check(
        "token.malformed", "every token in use has the form of one", "`Token must be a valid JWT`, `Invalid token format`",
        "it was cut off when it was copied, or another secret stands in its place", "no engine takes it",
        after=("env.file", "env.line-ends"),
    ),
    _check(
        "token.expired", "no token in use has expired", "`invalid auth token` from one day to the next",
        "it was made for a time, and nobody ran `owlclaw-up` in its last 14 days", "the engine refuses it",
    ),
    _check(
        "token.expires", "no token in use expires within 14 days", "nothing yet",
        "it was made for a time; `owlclaw-up` renews it in its last 14 days", "every program stops on that day",
    ),
    _check(
        "token.tenant", "every token in use is for the engine's tenant", "`invalid auth token`, HTTP 403",
        "it was made for another tenant, or for another engine", "the engine refuses it",
    ),
    _check(
        "token.server-url", "every token in use is for the engine's SERVER_URL", "`invalid auth token`",
        "it was made when the engine had another address; a slash more at the end is another one",
        "the engine compares it as an exact string, and refuses it",
    ),
    _check(
        "token.database-reset", "every token in use is on record", "`invalid auth token`",
        "the engine's database was made anew, or the token is another engine's", "the engine refuses it",
        after=("postgres.database", "hatchet.migrations", "hatchet.tenant"),
    ),
    _check(
        "token.revoked", "no token in use was revoked", "`invalid auth token`",
        "somebody revoked it, in the dashboard or by `owlclaw-up token rotate`", "the engine refuses it",
    ),
    _check(
        "token.keys", "every token in use was signed with the engine's keys", "`invalid auth token`, though all of it fits",
        "the engine has other keysets than at the time when it was made: half of a volume was removed, say",
        "the engine refuses it", asked=True, after=_NOBODY,
    ),
    _check(
        "token.clock", "the engine's clock is not behind the tokens", "`invalid auth token` for a new token",
        "a virtual machine's clock stood still while the laptop slept", "a token from the future is refused",
        "set that clock right", asked=True, after=_NOBODY, fixable=False,
    ),
    _check(
        "token.rest", "REST takes every token that gRPC takes", "HTTP 403, while workers work",
        "`HATCHET_CLIENT_SERVER_URL` leads to another engine", "programs cannot ask for runs, workers or schedules",
        asked=True, after=_NOBODY,
    ),
    _check(
        "token.refused", "the engine takes every token in use", "`invalid auth token`",
        "it is not known: the engine's database could not be asked", "the engine refuses it", asked=True,
        after=("postgres.reach", "postgres.login", "postgres.role", *_NOBODY),
    ),
    _check(
        "token.grpc-address", "every token in use names the engine's gRPC address",
        "`failed to connect to all addresses`, `Name resolution failed`, only without `HATCHET_CLIENT_HOST_PORT`",
        "it was made by an engine that was told another broadcast address: `host.docker.internal`, say",
        "a program that is not told where to dial dials there", _ROTATE, asked=True, fixable=False,
    ),
    _check(
        "token.differs", "the token in use is the one that is kept", "another one after the next `owlclaw-up`",
        "somebody put a token of their own into the dotenv file", f"the next `{UP}` writes the kept one over it",
        # Whatever is wrong with it, it is the same one that is wrong.
        after=(
            "token.malformed", "token.expired", "token.tenant", "token.server-url", "token.database-reset", "token.revoked",
            "token.keys",
        ),
    ),
)  # fmt: skip
