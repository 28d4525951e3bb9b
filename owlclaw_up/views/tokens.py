"""The screens of `token show`, `token check` and `token rotate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from owlclaw_up.model import Finding, Outcome


class Put(Protocol):
    """Prints one line."""

    def __call__(self, text: str = "", style: str = "") -> None: ...


Findings = Callable[[Sequence[Finding]], None]


def show(outcome: Outcome, put: Put) -> None:
    """The claims of the kept token; nothing where the token alone was printed."""
    token = outcome.token
    if token is None or outcome.data["revealed"]:
        return
    rows = (
        ("token", f"{outcome.data['value']}   (owlclaw-up token show --reveal)"),
        ("id", token.token_id),
        ("tenant", token.tenant),
        ("REST", token.server_url),
        ("gRPC", token.grpc_address),
        ("issued", token.issued_at),
        ("expires", f"{token.expires_at}, {_left(token.days_left)}"),
    )
    put(f"The token of this environment: {outcome.mode.value if outcome.mode else ''}", "bold")
    for name, value in rows:
        put(f"  {name:<10} {value}")
    put()
    put("  owlclaw-up token check    whether it is good", "dim")
    put("  owlclaw-up token rotate   a new one in its place", "dim")


def _left(days: int) -> str:
    return f"{days} days left" if days >= 0 else "expired"


def check(outcome: Outcome, put: Put, findings: Findings) -> None:
    """The verdict, and what it rests on."""
    bad = sum(finding.level == "fail" for finding in outcome.findings)
    if bad:
        put(f"Not good ({outcome.seconds:.1f} s)", "bold red")
    else:
        put(f"Good ({outcome.seconds:.1f} s)", "bold green")
    findings(outcome.findings)


def rotate(outcome: Outcome, put: Put, findings: Findings) -> None:
    """What the new token is, and what became of the old one."""
    previous = outcome.data["previous"]
    put()
    if outcome.token is not None:
        put(
            f"Rotated in {outcome.seconds:.1f} s: a token until {outcome.token.expires_at[:10]} is in {outcome.env_file}",
            "bold green",
        )
    findings(outcome.findings)
    if previous["kept"]:
        put(
            f"  the old one stays good until {previous['expires_at'][:10]}; the next rotate without --keep-old revokes it"
        )
    else:
        put("  programs that are running have the old one until they are started again")
