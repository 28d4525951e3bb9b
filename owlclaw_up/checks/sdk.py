"""Is hatchet-sdk there, does it fit the engine, does it speak as the engine does."""

from __future__ import annotations

from collections.abc import Iterator

from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Seen, of_error, ok
from owlclaw_up.checks.network import effective
from owlclaw_up.errors import EngineUnusable
from owlclaw_up.facts.dotenv import SHELL
from owlclaw_up.facts.tokens import dials
from owlclaw_up.model import Mode, Obstacle, found
from owlclaw_up.modes import NAME_ENGINE, too_old, usable_engine

_TLS = "HATCHET_CLIENT_TLS_STRATEGY"


def _installed(evidence: Evidence) -> Iterator[Seen]:
    python = found(evidence.facts.python)
    if python is None:
        return
    if python.sdk is not None:
        yield ok(f"hatchet-sdk {python.sdk.version} in {python.path}")
        return
    bites = evidence.standing and evidence.with_engine and python.own
    command = f"{python.install} hatchet-sdk"
    yield Seen("warn" if bites else "info", f"{python.path} has no hatchet-sdk", "", command, command)


def _engine(evidence: Evidence) -> Iterator[Seen]:
    """The engine at hand, as `up` judges it; and the one that runs, by what it says of itself, for the project's own SDK."""
    at_hand = usable_engine(evidence.facts) if evidence.mode is Mode.NATIVE else None
    if isinstance(at_hand, Obstacle):
        yield of_error(EngineUnusable("engine-too-old", at_hand.why, hint=at_hand.hint))
        return
    python, token = found(evidence.facts.python), evidence.facts.our_stack.token
    sdk = (python.sdk if python else None) or found(evidence.facts.sdk)
    version = token.grpc.version if token and token.grpc else ""
    if not evidence.with_engine or sdk is None or not version:
        return
    old = too_old("the engine that runs", version, sdk)
    if old is None:
        yield ok(f"hatchet-sdk {sdk.version} drives engine {version}")
        return
    detail = "it uses its legacy path, and fails at random: DeprecationError"
    if evidence.with_docker:
        image = evidence.settings.hatchet_image.value
        yield Seen("fail", old.why, f"{detail}; image {image}", f"{old.hint}; the setting hatchet_image names it", "")
    elif evidence.with_own_engine:
        yield Seen("fail", old.why, detail, f"{old.hint}; {NAME_ENGINE}", "")
    else:
        yield Seen("fail", old.why, detail, "upgrade that engine, or take an older hatchet-sdk")


def _tls(evidence: Evidence) -> Iterator[Seen]:
    places, names = found(evidence.facts.shadows), evidence.settings.env_names.value
    if not evidence.standing or not evidence.with_own_engine or places is None:
        return
    at, port = dials(places, names), evidence.ours("grpc")
    if at.host_port not in ("", f"localhost:{port}", f"127.0.0.1:{port}"):
        # Another engine than ours may well speak TLS.
        return
    if not at.tls:
        yield ok("programs speak plain text to the engine, as it does")
        return
    name = names.get(_TLS, _TLS)
    place = effective(places).get(name)
    where = f"{name} ({place.text}) is not none" if place else f"{name} is not set, and hatchet-sdk then speaks TLS"
    title = f"programs speak TLS to the engine, and it speaks plain text: {where}"
    detail = "such a call ends in WRONG_VERSION_NUMBER"
    if place is None or place in places.written:
        mend = f"{UP} (it writes {name}=none)"
        yield Seen("fail", title, detail, mend, UP, Fix("run owlclaw-up", up=True))
    elif place.where == SHELL:
        yield Seen("fail", title, detail, f"unset {place.key}", f"unset {place.key}")
    else:
        yield Seen("fail", title, detail, f"remove line {place.line} of {place.where}")


CHECKS: tuple[Check, ...] = (
    Check(
        "sdk.installed", "the project's Python has hatchet-sdk", "`ModuleNotFoundError: No module named 'hatchet_sdk'`",
        "it was installed for another interpreter, or not yet", "without it no program can talk to the engine",
        ".venv/bin/python -m pip install hatchet-sdk", _installed, ("python",), ("platform.python",),
    ),
    Check(
        "sdk.engine", "hatchet-sdk drives this engine",
        "`Connected to an older Hatchet engine that does not support multiple slot types`, and some calls end in `DeprecationError`",
        "the engine is older than hatchet-sdk asks for, or was built without a version stamp",
        "the SDK's legacy path fails at random", "take a newer engine", _engine, ("python", "sdk", "engines", "stack"),
        ("remote.version",),
    ),
    Check(
        "sdk.tls", "programs speak to the engine without TLS, as it does",
        "`Ssl handshake failed: SSL_ERROR_SSL ... WRONG_VERSION_NUMBER`",
        f"{_TLS} is missing, or something else than none where programs look first", "no program reaches the engine",
        UP, _tls, ("shadows",), ("env.missing", "env.file"), fixable=True,
    ),
)  # fmt: skip
