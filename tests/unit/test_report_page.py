"""The page of a report: every part in every state, nothing in it that is not escaped, nothing that is loaded."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import xml.etree.ElementTree as ET
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from owlclaw_up.model import Outcome
from owlclaw_up.report_values import LastUp, Part, Span, Stack
from owlclaw_up.views.report import GENERATOR, moment, page, show
from owlclaw_up.views.report_bundle import COMMENT, archive, encoded
from owlclaw_up.views.report_drawing import narrow, shortened, wide
from owlclaw_up.views.report_timeline import of_probes, of_up
from tests.reports import AT, FULL, HOSTILE, MIXED, MOCK, NATIVE, STATES, a_report, broken, poisoned

SECTIONS = ("findings", "stack", "decision", "time", "proofs", "versions", "settings", "logs", "receipts")
VOID = {"meta", "link", "col", "br", "img", "input", "hr"}
# What a page could load or run, by element; and by attribute.
LOADING = {"script", "iframe", "object", "embed", "img", "audio", "video", "source", "form", "base", "image", "use"}


class Page(HTMLParser):
    """What stands where in a page; complains of elements that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def having(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


each_state = pytest.mark.parametrize("state", STATES)


@each_state
def test_every_part_in_every_state(state: str) -> None:
    made = Page(page(STATES[state]()))
    ids = [attributes["id"] for _, attributes in made.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [s["id"] for s in made.having("section")] == list(SECTIONS)
    assert [a["href"].removeprefix("#") for a in made.having("a")[1:]] == list(SECTIONS)
    named = {a["aria-labelledby"] for _, a in made.elements if "aria-labelledby" in a}
    assert named <= set(ids)
    assert len(made.having("h1")) == 1
    for landmark in ("header", "nav", "main", "footer"):
        assert made.having(landmark), landmark
    assert all(th.get("scope") in ("row", "col") for th in made.having("th"))


@each_state
def test_it_loads_nothing_and_runs_nothing(state: str) -> None:
    made = Page(page(STATES[state]()))
    assert not {tag for tag, _ in made.elements} & LOADING
    for _, attributes in made.elements:
        assert not [
            name for name in attributes if name.startswith("on") or name in ("src", "srcset", "style", "action")
        ]
        assert attributes.get("href", "#").startswith(("#", "data:,"))
    policy = next(m["content"] for m in made.having("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    style = page(STATES[state]()).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


@each_state
def test_hostile_words_stay_words(state: str) -> None:
    """Every text of a report, whatever part it is in, with markup that would run, or would end an element or an attribute."""
    made = page(poisoned(STATES[state]()))
    assert "<script" not in made
    assert "<img" not in made
    # Not one element more, and none with another attribute: a text is a text.
    clean = Page(page(STATES[state]())).elements
    assert [(tag, set(a) - {"open"}) for tag, a in Page(made).elements] == [
        (tag, set(a) - {"open"}) for tag, a in clean
    ]
    assert HOSTILE in Page(made).text


def test_a_cause_holds_what_follows_from_it_and_says_what_to_do() -> None:
    made = Page(page(broken()))
    assert "1 more follows from this" in made.text
    assert made.text.index("nobody answers on 127.0.0.1:5432") < made.text.index("the engine's API does not answer")
    assert len(made.having("article")) == 4
    assert "1 check is well" in made.text
    assert "owlclaw-up doctor --fix would run owlclaw-up again" in made.text


def test_states_are_words_as_well_as_colours() -> None:
    made = Page(page(broken()))
    for word in ("Does not work", "failure", "warning", "unknown", "note", "stopped", "not ready", "failed", "skipped"):
        assert word in made.text, word


def test_a_log_is_shown_as_it_is() -> None:
    made = page(a_report())
    assert "one line\nanother</pre>" in made
    assert "last 2 lines" in Page(made).text
    assert "smoke.log is empty" in Page(made).text
    assert "Permission denied" in Page(made).text


def test_a_page_says_who_made_it_at_its_beginning() -> None:
    assert GENERATOR in page(a_report())[:2000]


RUN = LastUp(
    "up", AT, "ok", "native", 10.0,
    (
        Span("State", "done", "create", 0.5, 0.001), Span("Data", "done", "create", 0.5, 2.0),
        Span("Images", "skipped", "skip", 2.5, 0.0), Span("Smoke", "done", "run", 2.5, 7.0, early=0.5),
        Span("Failed at once", "failed", "run", 9.5, 0.0),
    ),
)  # fmt: skip


def test_the_axis_of_an_up() -> None:
    made = of_up(RUN)
    assert [(b.name, b.begin, b.length, b.early) for b in made.bars] == [
        ("Looking, deciding, planning", 0.0, 5.0, None),
        ("Data", 5.0, 20.0, None),
        ("Smoke", 25.0, 70.0, 5.0),
        ("Failed at once", 95.0, 0.0, None),
        ("Ending", 95.0, 5.0, None),
    ]
    assert made.idle == ("State", "Images")
    assert made.ticks == ((0.0, "0 s"), (20.0, "2 s"), (40.0, "4 s"), (60.0, "6 s"), (80.0, "8 s"), (100.0, "10 s"))
    assert made.bars[1].about == "Data: from 0.50 s, 2.00 s long"


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.3, 1.0, 3.7, 34.4, 180.0, 4000.0])
def test_an_axis_of_any_length_has_few_round_ticks(seconds: float) -> None:
    ticks = of_probes({"stack": seconds}).ticks
    assert len(ticks) <= 6
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(0 <= at <= 100 for at, _ in ticks)
    assert of_up(dataclasses.replace(RUN, spans=(), seconds=seconds)).bars


def test_probes_begin_together_the_slowest_first() -> None:
    made = of_probes({"web": 0.2, "stack": 0.8})
    assert [(b.name, b.begin, b.length) for b in made.bars] == [("stack", 0.0, 100.0), ("web", 0.0, 25.0)]
    assert of_probes({}).bars == ()


@pytest.mark.parametrize("stack", [NATIVE, FULL, MIXED, MOCK])
def test_boxes_lie_in_the_drawing_and_apart(stack: Stack) -> None:
    for made in (wide(stack), narrow(stack)):
        places = [(box.x, box.y, box.width, box.height) for box in made.boxes]
        for x, y, width, height in [*places, *((f.x, f.y, f.width, f.height) for f in made.frames)]:
            assert 0 <= x <= x + width <= made.width
            assert 0 <= y <= y + height <= made.height
        for (x, y, width, height), (x2, y2, width2, height2) in itertools.combinations(places, 2):
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
        assert len(made.boxes) == (4 if stack.engine else 3)


def test_frames_are_around_what_runs_in_the_same_thing() -> None:
    assert [f.label for f in wide(NATIVE).frames] == ["processes of this machine"]
    assert [f.whole for f in wide(FULL).frames] == ["Docker 28.2.2: owlclaw-an-application-dd81e48c"]
    assert len(wide(MIXED).frames) == 2
    assert wide(dataclasses.replace(MOCK, postgres=Part("PostgreSQL", "not set up"))).frames == ()


def test_addresses_are_short_for_this_machine_and_whole_for_another() -> None:
    labels = [line.label for line in wide(dataclasses.replace(NATIVE, sql="db.example:5432", rest="")).lines]
    assert labels == ["variables", "gRPC :17077", "REST", "SQL", "SQL db.example:5432"]


def test_a_long_name_loses_its_middle() -> None:
    assert (
        shortened("owlclaw-app-dd81e48c-hatchet-lite-1", 21) == "owlclaw-ap…chet-lite-1"[:21]
        or len(shortened("owlclaw-app-dd81e48c-hatchet-lite-1", 21)) == 21
    )
    assert shortened("short", 21) == "short"


def test_times_are_readable_and_what_is_none_stays() -> None:
    assert moment(AT) == "2026-11-26 02:45:25 UTC"
    assert moment("yesterday") == "yesterday"


def test_the_screen_says_the_verdict_and_where_it_is() -> None:
    lines: list[str] = []
    data = {
        "path": "/home/user/app/owlclaw-up-report.zip", "bytes": 12345, "bundle": True, "files": ["a.html", "logs/up.log"],
        "verdict": {"level": "fail", "title": "Mode native does not work: x", "hint": "owlclaw-up"},
    }  # fmt: skip
    outcome = Outcome("report", "ok", 0, project=Path("/home/user/app"), seconds=1.25, data=data)
    show(outcome, lambda text="", style="": lines.append(text))
    assert lines[:2] == ["✕ Does not work: Mode native does not work: x", "    -> owlclaw-up"]
    assert "Written: owlclaw-up-report.zip  (12 kB, in 1.2 s)" in lines
    show(dataclasses.replace(outcome, data={"path": "-"}), lambda text="", style="": lines.append("more"))
    assert "more" not in lines


def test_the_bundle_is_an_archive_of_private_files_and_known_by_its_comment() -> None:
    made = archive({"owlclaw-up-report.html": "<!doctype html>", "logs/up.log": "täglich\n"}, (2026, 11, 26, 2, 45, 24))
    with zipfile.ZipFile(io.BytesIO(made)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["owlclaw-up-report.html", "logs/up.log"]
        assert opened.read("logs/up.log").decode() == "täglich\n"
        assert {info.external_attr >> 16 for info in opened.infolist()} == {0o600}
    assert made.endswith(COMMENT)


def test_a_path_that_is_no_text_can_be_written_all_the_same() -> None:
    made = encoded(page(a_report(project="/home/user/caf\udce9")))
    assert b"<code>/home/user/caf?</code>" in made
    assert archive({"a.txt": "caf\udce9"}, (2026, 11, 26, 0, 0, 0)).startswith(b"PK")


@each_state
def test_drawings_are_sound(state: str) -> None:
    for drawn in re.findall(r"<svg.*?</svg>", page(STATES[state]()), re.DOTALL):
        ET.fromstring(drawn)
