"""Taking secrets out of foreign words: logs, errors and recorded output. Pure.

Two nets: the values this run knows, and shapes that are secrets wherever they come from (a JWT, a keyset, the password
of a URL). What a view prints and what an error keeps in `detail` goes through here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any
from urllib.parse import quote

MASK = "***"
_TOKEN = re.compile(r"\bey[A-Za-z0-9_=-]{8,}\.[A-Za-z0-9_=-]{4,}\.?[A-Za-z0-9_=/+-]*")
_KEYSET = re.compile(r"\beyJ[A-Za-z0-9+/_-]{120,}={0,2}")
# What stands for a password in a command that is to be typed.
_PLACEHOLDER = r"(?:\.{3}|PASSWORD)"
_URL_PASSWORD = re.compile(
    rf"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:)(?!{_PLACEHOLDER}@[^\s@]*(?:\s|$))[^\s]+(?=@)"
)
_KEYWORD_PASSWORD = re.compile(
    r"(?P<head>(?:\b\w*passw(?:or)?d|\bpwd)\s*=\s*)(?!\.{3}(?:\s|$))('[^']*'|\"[^\"]*\"|[^\s&'\"]+)", re.IGNORECASE
)
_SHORTEST = 4


class Redactor:
    """Masks the given secrets, and whatever looks like one.

    Args:
        secrets: texts to mask wherever they stand, also percent-encoded; shorter than four characters are left, since
            masking them would mask ordinary words.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        for text in secrets:
            if len(text) >= _SHORTEST:
                self._known |= {text, quote(text, safe="")}

    def __call__(self, text: str) -> str:
        for secret in sorted(self._known, key=len, reverse=True):
            text = text.replace(secret, MASK)
        text = _TOKEN.sub(MASK, text)
        text = _KEYSET.sub(MASK, text)
        text = _URL_PASSWORD.sub(rf"\g<head>{MASK}", text)
        return _KEYWORD_PASSWORD.sub(rf"\g<head>{MASK}", text)

    def within(self, value: Any) -> Any:
        """A value with every text in it masked: of frozen dataclasses, mappings (their keys stay), lists and tuples."""
        if type(value) is str:
            return self(value)
        if isinstance(value, Mapping):
            return {key: self.within(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.within(inner) for inner in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.replace(value, **{f.name: self.within(getattr(value, f.name)) for f in fields(value)})
        return value
