"""JSON: exactly one document per command, with the schema of docs/reference/json.md. Keys are only ever added."""

from __future__ import annotations

import json
from typing import Any

from owlclaw_up.model import Outcome, Smoke

SCHEMA = "owlclaw-up/1"


def document(outcome: Outcome) -> dict[str, Any]:
    """The envelope of an outcome; holds no secret."""
    decision, token, error = outcome.decision, outcome.token, outcome.error
    rendered: dict[str, Any] = {
        "schema": SCHEMA,
        "command": outcome.command,
        "status": outcome.status,
        "exit_code": outcome.exit_code,
        "mode": outcome.mode.value if outcome.mode else None,
        "decision": None,
        "steps": [
            {
                "id": s.id,
                "title": s.title,
                "action": s.action.word,
                "status": s.status,
                "seconds": round(s.seconds, 3),
                "detail": s.detail,
                "began": round(s.began, 3),
                "early": None if s.early is None else round(s.early, 3),
            }
            for s in outcome.steps
        ],
        "endpoints": dict(outcome.endpoints),
        "env_file": outcome.env_file,
        "project": str(outcome.project) if outcome.project else None,
        "seconds": round(outcome.seconds, 3),
        "smoke": _smoke(outcome.smoke) if outcome.smoke else None,
        "findings": [
            {
                "id": f.id,
                "level": f.level,
                "title": f.title,
                "detail": f.detail,
                "hint": f.hint,
                "command": f.command,
                "why": f.why,
                "cause": f.cause or None,
                "fix": f.fix or None,
            }
            for f in outcome.findings
        ],
        "services": [
            {
                "id": s.id,
                "state": s.state,
                "detail": s.detail,
                "port": s.port,
                "pid": s.pid,
                "since": s.since or None,
                "version": s.version or None,
                "container": s.container or None,
            }
            for s in outcome.services
        ],
        "token": None,
        "login": {"email": outcome.login.email} if outcome.login else None,
        "error": None,
    }
    if decision is not None:
        rendered["decision"] = {
            "mode": decision.mode.value,
            "source": decision.source,
            "why": decision.why,
            "rejected": [{"mode": r.mode.value, "why": r.why} for r in decision.rejected],
            "durable": decision.durable,
            "hint": decision.hint,
            "moves": [{"mode": m.mode.value, "why": m.why} for m in decision.moves],
        }
    if token is not None:
        rendered["token"] = {
            "tenant": token.tenant,
            "server_url": token.server_url,
            "grpc_address": token.grpc_address,
            "expires_at": token.expires_at,
            "days_left": token.days_left,
            "accepted": token.accepted,
            "issued_at": token.issued_at or None,
            "token_id": token.token_id or None,
        }
    if error is not None:
        rendered["error"] = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "detail": error.detail,
        }
    return rendered | dict(outcome.data)


def _smoke(smoke: Smoke) -> dict[str, Any]:
    return {
        "level": smoke.level,
        "status": smoke.status,
        "kept_since": smoke.kept_since or None,
        "proofs": [
            {
                "id": p.id,
                "status": p.status,
                "seconds": round(p.seconds, 3),
                "detail": p.detail,
                "hop": p.hop,
                "data": dict(p.data),
            }
            for p in smoke.proofs
        ],
    }


def text(outcome: Outcome) -> str:
    """The document as text, one line end at its end."""
    return json.dumps(document(outcome), indent=1, ensure_ascii=False) + "\n"
