"""The screen of `export helm`: where the files are, what has to be changed, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from owlclaw_up.model import Finding, Outcome


def show(outcome: Outcome, put: Callable[..., None], findings: Callable[[Sequence[Finding]], None]) -> None:
    """Print it; nothing where the files themselves went to the screen."""
    data = outcome.data
    if not data["values"] or not data["secret"]:
        return
    put(f"Values for {data['chart']}, Hatchet {data['image_tag']}", "bold green")
    put(f"  values   {data['values']}   no secret is in it")
    put(f"  secret   {data['secret']}   keys and passwords, 0600")
    put(f"  sized    {data['pods']} pods, so max_connections of at least {data['connections']}")
    put()
    findings(outcome.findings)
    put()
    put(f"  kubectl apply -n hatchet -f {data['secret']}", "dim")
    put(f"  helm install hatchet hatchet/{data['chart']} -n hatchet -f {data['values']}", "dim")
