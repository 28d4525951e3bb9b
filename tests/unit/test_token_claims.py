"""What a token says of itself; what is none."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owlclaw_up.spec import TENANT_ID
from owlclaw_up.steps.token import parse_token_output
from owlclaw_up.token_claims import Claims, decode, placeholder
from tests.unit.fakes import NOW, make_token


def jwt(payload: Any) -> str:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return f"eyJhbGciOiJFUzI1NiJ9.{base64.urlsafe_b64encode(text).decode().rstrip('=')}.c2ln"


def test_claims_of_a_token_as_hatchet_makes_it() -> None:
    claims = decode(make_token())
    assert claims == Claims(
        TENANT_ID, "http://localhost:8888", "localhost:17077", NOW + 365 * 86400, NOW,
        "0c1b7a52-6f4a-4c3f-9d27-0a8f3a2b1c4d",
    )  # fmt: skip
    assert claims.expires_text == "2027-09-21T14:13:20+00:00"


@pytest.mark.parametrize(
    ("seconds", "days"), [(365 * 86400, 365), (86400, 1), (86399, 0), (0, 0), (-1, -1), (-86401, -2)]
)
def test_days_left_are_whole(seconds: int, days: int) -> None:
    claims = decode(make_token(exp=NOW + seconds))
    assert claims is not None
    assert claims.days_left(NOW) == days


def test_an_old_token_without_server_url_names_it_as_its_audience() -> None:
    claims = decode(jwt({"sub": "t", "aud": "http://h:1", "exp": 5}))
    assert claims == Claims("t", "http://h:1", "", 5.0, 0.0, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.e30",
        "eyJhbGciOiJub25lIn0.e30.x",
        "eyJhbGciOiJub25lIn0.e30.x.y",
        "eyJhbGciOiJub25lIn0.%%%.x",
        "eyJhbGciOiJub25lIn0.é.x",
        "eyJhbGciOiJub25lIn0..x",
        "eyJwcmltYXJ5S2V5SWQiOjE5NTQwMDAwMDB9",
        jwt([]),
        jwt(None),
        jwt("text"),
        jwt(b"\xff\xfe"),
        jwt(b"{"),
        jwt({"exp": 5}),
        jwt({"sub": "t"}),
        jwt({"sub": "t", "exp": "soon"}),
        jwt({"sub": "t", "exp": None}),
        jwt({"sub": "t", "exp": float("inf")}),
        jwt({"sub": "t", "exp": float("nan")}),
        jwt({"sub": "t", "exp": 1e20}),
        jwt({"sub": "t", "exp": 10**400}),
    ],
)
def test_what_is_no_token(text: str) -> None:
    assert decode(text) is None


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(), st.binary(max_size=40).map(jwt), st.floats().map(lambda exp: jwt({"sub": "t", "exp": exp})))
)
def test_whatever_decodes_can_be_told(text: str) -> None:
    claims = decode(text)
    if claims is not None:
        assert claims.expires_text
        assert isinstance(claims.days_left(NOW), int)


def test_the_placeholder_is_a_token_that_nobody_signed() -> None:
    text = placeholder(TENANT_ID, "http://localhost:8888", "localhost:17077")
    claims = decode(text)
    assert claims == Claims(TENANT_ID, "http://localhost:8888", "localhost:17077", 4102444800.0, 0.0, "")
    header = json.loads(base64.urlsafe_b64decode(text.split(".")[0] + "=="))
    assert header["alg"] == "none"


OUTPUTS = [
    (f"{make_token()}\n", True),
    (f"\n  {make_token()}  \n\n", True),
    (f"some line of a log\n{make_token()}\n", True),
    (f"{make_token()}\n{make_token()}\n", False),
    ("", False),
    ("eyJhbGciOiJFUzI1NiIsICJraWQiOiJlUWFiMkEifQ.<keyset>.SIGNATURE\n", False),
    ("Usage:\n  hatchet-admin token create [flags]\n", False),
]


@pytest.mark.parametrize(("stdout", "good"), OUTPUTS)
def test_the_output_of_token_create_has_exactly_one_token(stdout: str, good: bool) -> None:
    claims, text = parse_token_output(stdout)
    assert (claims is not None) is good
    assert text == (make_token() if good else "")
