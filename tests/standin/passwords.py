"""How the stand-in stores passwords; the real engine has bcrypt, which nobody here needs."""

from __future__ import annotations

import hashlib
import secrets


def hash_password(password: str, salt: str | None = None) -> str:
    """Give the stored form of a password: scheme, salt and digest, separated by ``$``."""
    salt = salt or secrets.token_hex(8)
    return f"standin${salt}${hashlib.sha256((salt + password).encode()).hexdigest()}"
