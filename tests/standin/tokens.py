"""Keysets and API tokens: shaped like the real ones, signed with a plain HMAC.

A master keyset "encrypts" the private and the public one: opening them with another master fails. Private and public
keyset carry the same secret, so that a token signed with one set is refused by another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from .errors import ConfigurationError
from .misbehave import clock

_MASTER_TYPE = "type.googleapis.com/google.crypto.tink.AesGcmKey"
_PRIVATE_TYPE = "type.googleapis.com/google.crypto.tink.JwtEcdsaPrivateKey"
_PUBLIC_TYPE = "type.googleapis.com/google.crypto.tink.JwtEcdsaPublicKey"
DEFAULT_TENANT = "707d0855-80ab-4e1f-a156-f1c4546cbf52"


class TokenRefusedError(Exception):
    """A token that does not hold; the text is the reason, which clients never see."""


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _encode_url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode_url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _seal(master: bytes, plain: bytes) -> bytes:
    nonce = secrets.token_bytes(12)
    stream = hashlib.shake_256(master + nonce).digest(len(plain))
    body = bytes(a ^ b for a, b in zip(plain, stream, strict=True))
    return nonce + body + hmac.digest(master, nonce + body, "sha256")[:16]


def _open(master: bytes, sealed: bytes) -> bytes:
    nonce, body, tag = sealed[:12], sealed[12:-16], sealed[-16:]
    if not hmac.compare_digest(tag, hmac.digest(master, nonce + body, "sha256")[:16]):
        raise ConfigurationError("keyset.Handle: decryption failed: aead_factory: decryption failed")
    stream = hashlib.shake_256(master + nonce).digest(len(body))
    return bytes(a ^ b for a, b in zip(body, stream, strict=True))


def _keyset_info(kind: str, number: int) -> dict[str, Any]:
    info = {"typeUrl": kind, "status": "ENABLED", "keyId": number, "outputPrefixType": "TINK"}
    return {"primaryKeyId": number, "keyInfo": [info]}


def create_keysets() -> tuple[str, str, str, str]:
    """Make new keysets.

    Returns:
        Master, private, public and the unencrypted public one: base64 without padding, starting with ``eyJ``.
    """
    master, secret, number = secrets.token_bytes(32), secrets.token_bytes(32), secrets.randbelow(2**32)

    def clear(kind: str, material: str, value: bytes) -> str:
        data = {"typeUrl": kind, "value": base64.b64encode(value).decode(), "keyMaterialType": material}
        key = {"keyData": data, "status": "ENABLED", "keyId": number, "outputPrefixType": "TINK"}
        return _encode(_compact({"primaryKeyId": number, "key": [key]}))

    def sealed(kind: str, padding: int) -> str:
        plain = _compact({"kind": kind, "secret": secret.hex(), "id": number}).ljust(padding)
        body = base64.b64encode(_seal(master, plain)).decode()
        return _encode(_compact({"encryptedKeyset": body, "keysetInfo": _keyset_info(kind, number)}))

    return (
        clear(_MASTER_TYPE, "SYMMETRIC", b"\x1a\x20" + master),
        sealed(_PRIVATE_TYPE, 220),
        sealed(_PUBLIC_TYPE, 180),
        clear(_PUBLIC_TYPE, "ASYMMETRIC_PUBLIC", b"\x1a\x20" + secrets.token_bytes(64)),
    )


def _keyset_of_environment(name: str) -> str:
    path = os.environ.get(name + "_FILE")
    if path:
        return Path(path).read_text(encoding="utf-8").strip()
    return os.environ.get(name, "")


@dataclass(frozen=True)
class Keys:
    """The opened keysets: what signs and what verifies."""

    number: int
    signing: bytes
    verifying: bytes

    @classmethod
    def from_environment(cls) -> Keys:
        """Open the keysets in SERVER_ENCRYPTION_*.

        Raises:
            ConfigurationError: One is missing, broken or of another master, with the texts of the real engine.
        """
        names = ("MASTER_KEYSET", "JWT_PRIVATE_KEYSET", "JWT_PUBLIC_KEYSET")
        master, private, public = (_keyset_of_environment(f"SERVER_ENCRYPTION_{name}") for name in names)
        loading = "could not load encryption service: "
        if not master:
            raise ConfigurationError(loading + "encryption is required")
        if not (private and public):
            raise ConfigurationError(loading + "jwt encryption is required")
        reading = loading + "could not create raw keyset encryption service: failed to read keyset: "
        try:
            key = _decode(json.loads(_decode(master))["key"][0]["keyData"]["value"])[2:]
        except (ValueError, KeyError, IndexError, TypeError):
            raise ConfigurationError(reading + "insecurecleartextkeyset: invalid keyset") from None
        opened = []
        for text in (private, public):
            try:
                opened.append(json.loads(_open(key, _decode(json.loads(_decode(text))["encryptedKeyset"]))))
            except ConfigurationError as error:
                raise ConfigurationError(reading + str(error)) from None
            except (ValueError, KeyError, TypeError):
                raise ConfigurationError(
                    reading + "proto:\u00a0syntax error (line 1:2): invalid UTF-8 in string"
                ) from None
        if opened[1]["kind"] != _PUBLIC_TYPE or opened[0]["kind"] != _PRIVATE_TYPE:
            raise ConfigurationError(
                "could not create JWT manager: failed to create JWT Verifier: "
                "jwt_verifier_factory: not a JWT Verifier primitive"
            )
        return cls(int(opened[0]["id"]), bytes.fromhex(opened[0]["secret"]), bytes.fromhex(opened[1]["secret"]))

    def sign(self, tenant: str, lifetime: float, *, token_id: str | None = None, grpc: str | None = None) -> str:
        """Make a token.

        Args:
            tenant: The tenant's id, the claim ``sub``.
            lifetime: Seconds it is good for; may be negative, as with the real one.
            token_id: The row in "APIToken" it belongs to.
            grpc: The gRPC address to put in, when not the configured one.
        """
        url, now = server_url(), int(time.time())
        header = {"alg": "ES256", "kid": _encode_url(self.number.to_bytes(4, "big"))}
        claims = {
            "aud": url,
            "exp": int(now + lifetime),
            "grpc_broadcast_address": grpc or grpc_address(),
            "iat": now,
            "iss": url,
            "server_url": url,
            "sub": tenant,
            "token_id": token_id or str(uuid4()),
        }
        signed = f"{_encode_url(_compact(header))}.{_encode_url(_compact(claims))}"
        return f"{signed}.{_encode_url(hmac.digest(self.signing, signed.encode(), 'sha512'))}"

    def verify(self, token: str) -> dict[str, Any]:
        """Check everything about a token that needs no database, in the real engine's order.

        Returns:
            The claims.

        Raises:
            TokenRefusedError: It does not hold.
        """
        try:
            header, body, signature = token.split(".")
            expected = hmac.digest(self.verifying, f"{header}.{body}".encode(), "sha512")
            if not hmac.compare_digest(expected, _decode_url(signature)):
                raise TokenRefusedError("invalid signature")
            claims: dict[str, Any] = json.loads(_decode_url(body))
        except ValueError:
            raise TokenRefusedError("not a token") from None
        now = clock()
        if claims.get("aud") != server_url() or claims.get("iss") != server_url():
            raise TokenRefusedError("audience or issuer does not match")
        if claims.get("exp", 0) <= now:
            raise TokenRefusedError("token has expired")
        if claims.get("iat", 0) > now + 1:
            raise TokenRefusedError("token was issued in the future")
        if not claims.get("token_id"):
            raise TokenRefusedError("token_id claim is missing")
        if claims.get("server_url") != server_url():
            raise TokenRefusedError("server_url claim does not match")
        return claims


def server_url() -> str:
    """Give SERVER_URL, or the real engine's default."""
    return os.environ.get("SERVER_URL") or "http://localhost:8080"


def grpc_address() -> str:
    """Give SERVER_GRPC_BROADCAST_ADDRESS, or the real engine's default."""
    return os.environ.get("SERVER_GRPC_BROADCAST_ADDRESS") or "127.0.0.1:7070"
