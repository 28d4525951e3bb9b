"""Which migrations lie between two revisions: straight lines, branches, merges, and what leads nowhere."""

from __future__ import annotations

import pytest

from owlclaw_up.errors import MigrationsUnusable
from owlclaw_up.host.migration_route import Graph, Route
from owlclaw_up.host.version_table import without_values

LINE = Graph({"a1": (), "b2": ("a1",), "c3": ("b2",)}, {}, ("c3",), {})
#      a1 - b2 - b3        m5 rests on both
#        \- c2 ------- m5
FORK = Graph({"a1": (), "b2": ("a1",), "c2": ("a1",), "b3": ("b2",)}, {}, ("b3", "c2"), {"left": "b2"})
MERGE = Graph({**FORK.below, "m5": ("b3", "c2")}, {}, ("m5",), {})


@pytest.mark.parametrize(
    ("graph", "current", "to", "route"),
    [
        (LINE, (), "heads", Route("heads", ("a1", "b2", "c3"))),
        (LINE, ("b2",), "heads", Route("heads", ("c3",))),
        (LINE, ("c3",), "head", Route("head")),
        (LINE, (), "b2", Route("b2", ("a1", "b2"))),
        (LINE, ("a1",), "c", Route("c3", ("b2", "c3"))),
        (LINE, ("b2",), "b2", Route("b2", (), True)),
        (LINE, ("c3",), "a1", Route("a1", ("c3", "b2"), True)),
        (LINE, ("c3",), "base", Route("base", ("c3", "b2", "a1"), True)),
        (LINE, ("a1",), "+1", Route("+1", ("b2",))),
        (LINE, ("c3",), "-2", Route("-2", ("c3", "b2"), True)),
        (FORK, ("b2",), "heads", Route("heads", ("c2", "b3"))),
        (FORK, ("a1",), "left@head", Route("left@head", ("b2", "b3"))),
        (FORK, ("b3",), "c2", Route("c2", ("c2",))),
        (MERGE, ("b3",), "heads", Route("heads", ("c2", "m5"))),
        (MERGE, ("m5",), "b2", Route("b2", ("m5", "b3"), True)),
        (Graph({}, {}, (), {}), (), "heads", Route("heads")),
    ],
)
def test_route(graph: Graph, current: tuple[str, ...], to: str, route: Route) -> None:
    assert graph.route(current, to) == route


@pytest.mark.parametrize(
    ("graph", "current", "to", "words"),
    [
        (LINE, (), "zz", "there is no such revision"),
        (LINE, (), "-1", "there are 0 migrations in that direction"),
        (LINE, ("b2",), "+2", "there are 1 migrations"),
        (LINE, (), "+0", "in that direction"),
        (FORK, (), "b", "2 revisions begin so"),
        (FORK, (), "head", "there are several heads, b3, c2"),
    ],
)
def test_what_leads_nowhere(graph: Graph, current: tuple[str, ...], to: str, words: str) -> None:
    with pytest.raises(MigrationsUnusable) as raised:
        graph.route(current, to)
    assert raised.value.code == "migrations-revision"
    assert words in raised.value.message


def test_a_revision_of_somebody_else() -> None:
    assert LINE.unknown(("b2", "x9")) == ("x9",)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("update t set name = 'O''Hara', n = 12.5\n  where id = 3", "update t set name = ?, n = ? where id = ?"),
        ("select $$secret$$, $tag$more 'x' secret$tag$", "select ?, ?"),
        ("select col1 from t2", "select col1 from t2"),
        ("x" * 500, "x" * 160),
    ],
)
def test_a_statement_is_shown_without_its_values(query: str, shown: str) -> None:
    assert without_values(query) == shown
