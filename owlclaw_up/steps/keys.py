"""The engine's keysets and cookie secrets, made once: they are the identity of every token."""

from __future__ import annotations

import contextlib
import secrets as entropy
import threading

from owlclaw_up.errors import ApplyFailed, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.steps.base import Applied, HatchetAdmin, Run
from owlclaw_up.steps.engine_env import COOKIE_SECRETS, IDENTITY, KEYSETS


class CreateKeys:
    """The three encryption keysets and the cookie secrets; the engine gets them by its environment, in every mode alike."""

    id = "engine.keys"
    title = "Engine keys"

    def __init__(self, ledger: Ledger, admin: HatchetAdmin) -> None:
        self.ledger, self.admin = ledger, admin
        self._early: threading.Thread | None = None
        self._texts: list[str] = []

    def begin(self, run: Run) -> None:
        """Have the keysets made while other steps work, where the tool needs nothing that they make."""
        if self.admin.may_begin:
            self._early = threading.Thread(target=self._make_early, args=(run,), daemon=True)
            self._early.start()
            # Also where another step fails first: what the tool runs in is gone only when it has ended.
            run.closers.append(self._early.join)

    def _make_early(self, run: Run) -> None:
        # A failure is told when it is this step's turn, and the tool is asked again.
        with contextlib.suppress(UpError):
            self._texts = self.admin.create_keysets(run)

    def check(self, facts: Facts) -> Change:
        if all(self.ledger.vault.engine.get(name) for name in IDENTITY):
            return unchanged("made once, kept")
        return Change(Action.CREATE, "three keysets and the cookie secrets", touches=("secrets.json",))

    def apply(self, run: Run) -> Applied:
        if self._early is not None:
            self._early.join()
        texts = self._texts or self.admin.create_keysets(run)
        if len(texts) != len(KEYSETS) or not all(texts):
            raise ApplyFailed(
                "keys-failed",
                "hatchet-admin keyset create-local-keys made no keysets",
                hint=f"{self.admin.about}; is it Hatchet's own?",
            )
        # Two words; the second must have 16, 24 or 32 bytes: hatchet, pkg/auth/cookie.
        cookies = f"{entropy.token_hex(16)} {entropy.token_hex(16)}"
        self.ledger.vault.engine.update(dict(zip(KEYSETS, texts, strict=True)), **{COOKIE_SECRETS: cookies})
        self.ledger.save_secrets()
        return Applied(Action.CREATE, "made")
