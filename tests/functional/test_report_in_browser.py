"""The page of a report in a real headless Chromium: it loads nothing, fits a phone, can be read in the dark and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from owlclaw_up.views.report import page
from tests.chromium import Chromium, browser
from tests.reports import STATES, a_report, broken, poisoned

PHONE, DESKTOP = (390, 844), (1280, 800)
# Text needs this contrast to what is behind it: WCAG 2.2, 1.4.3.
ENOUGH = 4.5
# Every piece of text that is seen: its contrast to the nearest thing behind it that has a colour. What lies under a text
# of a drawing is asked of the page itself, since its parents there are no boxes.
CONTRASTS = """
(() => {
  const parse = c => { const n = c.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const channel = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((m, n) => n - m); return (x + 0.05) / (y + 0.05); };
  const behind = (element, box) => {
    const svg = element.closest('svg');
    if (svg) {
      for (const below of document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2)) {
        const fill = getComputedStyle(below).fill;
        if (below.tagName === 'rect' && fill !== 'none') return parse(fill);
      }
      element = svg;
    }
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || ['STYLE', 'title', 'TITLE'].includes(element.tagName)) continue;
    const range = document.createRange(); range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2 || !element.checkVisibility({visibilityProperty: true})) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest('svg') ? style.fill : style.color);
    found.push({text: node.data.trim().slice(0, 40), ratio: ratio(ink, behind(element, box)), tag: element.tagName, ink: ink});
  }
  return found;
})()
"""
OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"
SIZE = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight, innerWidth]"
# What reaches beyond the page's edge though the page does not scroll.
BEYOND = """
[...document.body.querySelectorAll('*')].filter(e => e.checkVisibility() && !e.closest('.hidden, .skip, thead, svg'))
  .filter(e => { const b = e.getBoundingClientRect(); return b.width && (b.right > innerWidth + 1 || b.left < -1); })
  .map(e => e.outerHTML.slice(0, 120))
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of every state, and one full of hostile words."""
    folder = tmp_path_factory.mktemp("pages")
    made = {name: page(make()) for name, make in STATES.items()} | {"hostile": page(poisoned(broken()))}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in made}


EVERY = [*STATES, "hostile"]


@pytest.mark.parametrize("state", EVERY)
def test_nothing_is_loaded_nothing_runs_and_nothing_complains(
    state: str, chromium: Chromium, pages: dict[str, Path]
) -> None:
    chromium.open(pages[state], *DESKTOP)
    chromium.value("new Promise(done => setTimeout(done, 50))")
    asked = [event["request"]["url"] for event in chromium.said("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [pages[state].as_uri()]
    assert not chromium.said("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert "taken" not in chromium.value("document.title").split()
    assert chromium.value("document.scripts.length + document.images.length") == 0


def test_the_policy_forbids_what_would_be_loaded(chromium: Chromium, tmp_path: Path) -> None:
    """Were something put into the page all the same, the browser would not run it, nor ask anybody for it."""
    smuggled = "<script>document.title = 'taken'</script><img src='http://127.0.0.1:9/x.png'><link rel=stylesheet href='http://127.0.0.1:9/x.css'>"
    path = tmp_path / "smuggled.html"
    path.write_text(page(a_report()).replace("<main>", f"<main>{smuggled}"))
    chromium.open(path, *DESKTOP)
    assert chromium.value("document.title") != "taken"
    assert len(chromium.said("Log.entryAdded")) >= 3
    assert not chromium.said("Network.responseReceived")[1:]


@pytest.mark.parametrize("state", EVERY)
@pytest.mark.parametrize("window", [PHONE, DESKTOP, (1000, 800)], ids=["phone", "desktop", "between"])
def test_nothing_reaches_beyond_the_page(
    state: str, window: tuple[int, int], chromium: Chromium, pages: dict[str, Path]
) -> None:  # fmt: skip
    chromium.open(pages[state], *window)
    chromium.value(OPEN_ALL)
    width, _, inner = chromium.value(SIZE)
    assert (width, inner) == (window[0], window[0])
    assert chromium.value(BEYOND) == []


@pytest.mark.parametrize("state", ["well", "broken", "unreadable", "mock"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_text_can_be_read(
    state: str, scheme: str, window: tuple[int, int], chromium: Chromium, pages: dict[str, Path]
) -> None:  # fmt: skip
    chromium.open(pages[state], *window, scheme)
    chromium.value(OPEN_ALL)
    # A window as high as the page, since only what is in it can be asked what lies under a point.
    chromium.look(window[0], chromium.value(SIZE)[1], scheme)
    seen = chromium.value(CONTRASTS)
    assert len(seen) > 60
    assert state == "unreadable" or any(text["tag"] == "text" for text in seen)
    assert [text for text in seen if text["ratio"] < ENOUGH] == []
    dark = chromium.value("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(n) for n in dark.removeprefix("rgb(").removesuffix(")").split(","))
    assert brightness < 100 if scheme == "dark" else brightness > 600


@pytest.mark.parametrize(("window", "seen", "other"), [(PHONE, "narrow", "wide"), (DESKTOP, "wide", "narrow")])
def test_one_drawing_of_the_two_with_letters_that_can_be_read(
    window: tuple[int, int], seen: str, other: str, chromium: Chromium, pages: dict[str, Path]
) -> None:
    chromium.open(pages["broken"], *window)
    shown = "getComputedStyle(document.querySelector('.drawing.{}')).display"
    assert (chromium.value(shown.format(seen)), chromium.value(shown.format(other))) == ("block", "none")
    smallest = chromium.value(
        f"Math.min(...[...document.querySelectorAll('.drawing.{seen} text')].map(t => t.getBoundingClientRect().height))"
    )
    assert smallest >= 10
    # No line of a box is wider than its box.
    assert not chromium.value(
        f"[...document.querySelectorAll('.drawing.{seen} g')].filter(g => [...g.querySelectorAll('text')].some(t => "
        "t.getBoundingClientRect().right > g.querySelector('rect').getBoundingClientRect().right)).map(g => g.textContent)"
    )


def test_fingers_find_what_they_may_touch(chromium: Chromium, pages: dict[str, Path]) -> None:
    chromium.open(pages["broken"], *PHONE)
    heights = chromium.value(
        "[...document.querySelectorAll('nav a, summary')].map(e => e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 24, "WCAG 2.2, 2.5.8"


def test_a_keyboard_reaches_everything(chromium: Chromium, pages: dict[str, Path]) -> None:
    chromium.open(pages["broken"], *DESKTOP)
    key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    chromium.call("Input.dispatchKeyEvent", type="keyDown", **key)
    assert chromium.value("document.activeElement.textContent") == "To the findings"
    assert chromium.value("document.activeElement.getBoundingClientRect().left") > 0


def test_it_prints_light_and_whole(chromium: Chromium, pages: dict[str, Path]) -> None:
    chromium.open(pages["broken"], 720, 1000, "dark", "print")
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "[...document.querySelectorAll('details > :not(summary)')].filter(e => !e.getBoundingClientRect().height).length"
    assert chromium.value("document.querySelectorAll('details:not([open])').length") > 2
    assert chromium.value(hidden) == 0, "what is folded on a screen is open on paper"
    assert chromium.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    printed = chromium.pdf()
    assert printed.startswith(b"%PDF-")
    assert len(printed) > 20_000
