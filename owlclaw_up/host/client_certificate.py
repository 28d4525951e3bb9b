"""The certificate that a client shows to a server, judged by its files alone: what no server needs to be asked for."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from owlclaw_up.host.remote_base import CertificateLook

_ENCRYPTED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
_OTHERS = 0o077


def look_at_certificate(certificate: str, key: str) -> CertificateLook:
    """Whether the two files are a certificate and its key, and who may read the key.

    Args:
        certificate, key: PEM files.
    """
    try:
        Path(certificate).read_bytes()
        text = Path(key).read_bytes()
        mode = stat.S_IMODE(Path(key).stat().st_mode)
    except OSError as error:
        return CertificateLook(f"{error.filename} cannot be read: {os.strerror(error.errno or 0)}")
    if any(mark in text for mark in _ENCRYPTED):
        return CertificateLook(f"{key} is encrypted, and hatchet-sdk knows no password for it")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return CertificateLook(f"{key} is not the key of {certificate}")
        return CertificateLook(f"{certificate} and {key} are no certificate and key in PEM ({error.reason or error})")
    # Windows has rights of another kind.
    return CertificateLook(open_to_others=os.name == "posix" and bool(mode & _OTHERS))
