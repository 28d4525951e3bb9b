"""Declaring tasks, and what their inputs and outputs may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from owlclaw_up.client import BadArgument, BadCron, BadInput, BadTask, HatchetClient, Task, TaskRegisteredTwice

if TYPE_CHECKING:
    from decimal import Decimal


class Mail(BaseModel):
    to: str
    at: datetime | None = None


@dataclass
class Sent:
    count: int


def plain(input: Any, ctx: Any) -> None: ...


async def durable(input: Any, ctx: Any) -> None: ...


def test_a_decorated_function_is_a_task_and_still_itself() -> None:
    client = HatchetClient()

    @client.task
    def double(input: dict[str, int], ctx: Any) -> dict[str, int]:
        return {"doubled": input["value"] * 2}

    @client.task(
        "send-mail", timeout=timedelta(minutes=2), retries=3, crons=["*/5  * * * *"], concurrency=1, input=dict
    )
    async def send(input: Mail, ctx: Any) -> None: ...

    @client.durable_task()
    async def wait(input: Mail, ctx: Any) -> None: ...

    assert isinstance(double, Task)
    assert double({"value": 2}, None) == {"doubled": 4}
    assert list(client.tasks) == ["double", "send-mail", "wait"]
    assert (double.name, double.durable, double.timeout, double.schedule_timeout, double.retries) == (
        "double",
        False,
        60.0,
        300.0,
        0,
    )
    assert (send.timeout, send.crons, send.concurrency, send.input) == (120.0, ("*/5 * * * *",), 1, None)
    assert (wait.durable, wait.input) == (True, Mail)
    with pytest.raises(TypeError):
        client.tasks["x"] = double  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": ""}, "its name is empty"),
        ({"name": "send mail"}, "its name has ' '"),
        ({"name": "größe"}, "its name has 'ö'"),
        ({"name": "a:b"}, "the engine takes letters of a to z, digits, '.', '-' and '_'"),
        ({"name": "x" * 201}, "its name has 201 characters, and 200 are taken"),
        ({"name": 5}, "its name must be a text"),
        ({"timeout": 0}, "timeout = 0 cannot be used: it must be above 0"),
        ({"timeout": -1}, "it must be above 0"),
        ({"timeout": 1.5}, "timeout = 1.5 s, and the engine counts whole seconds"),
        ({"timeout": timedelta(milliseconds=500)}, "the engine counts whole seconds"),
        ({"timeout": "60s"}, "seconds or a timedelta is wanted"),
        ({"schedule_timeout": 1e9}, "more than 366 days"),
        ({"retries": -1}, "retries = -1 is not in 0 to 100"),
        ({"retries": 101}, "not in 0 to 100"),
        ({"retries": 1.0}, "not in 0 to 100"),
        ({"retries": True}, "not in 0 to 100"),
        ({"concurrency": 0}, "concurrency = 0 is no number of runs above 0"),
        ({"concurrency": "input.user"}, "no number of runs above 0"),
        ({"crons": "* * * * *"}, "crons is a list of expressions"),
        ({"crons": None}, "crons is a list of expressions"),
        ({"input": str}, "is no pydantic model, and not dict"),
        ({"input": Mail(to="x")}, "is no pydantic model"),
        ({"crons": ["* * * * *"], "input": Mail}, "its crons start it without an input, and to: Field required"),
    ],
)
@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_a_declaration_that_no_engine_takes(kind: str, options: dict[str, Any], why: str) -> None:
    client = HatchetClient()
    with pytest.raises(BadTask) as caught:
        getattr(client, kind)(**options)(durable)
    assert why in caught.value.message
    assert caught.value.hint
    assert (caught.value.code, caught.value.exit_code, dict(client.tasks)) == ("bad-task", 2, {})


def test_functions_that_are_no_tasks() -> None:
    client = HatchetClient()

    def one(input: Any) -> None: ...

    def three(input: Any, ctx: Any, more: Any) -> None: ...

    def yields(input: Any, ctx: Any) -> Iterator[int]:
        yield 1

    async def streams(input: Any, ctx: Any) -> AsyncIterator[int]:
        yield 1

    def unknown(input: Decimal, ctx: Any) -> None: ...

    for function, why in (
        (one, "it is called with two arguments"),
        (three, "it is called with two arguments"),
        (yields, "it yields, and a task returns"),
        (streams, "it yields"),
        (unknown, "the type 'Decimal' of its input cannot be found"),
        (Mail, "a function is wanted"),
        (5, "a function is wanted"),
    ):
        with pytest.raises(BadTask) as caught:
            client.task()(function)  # type: ignore[arg-type]
        assert why in caught.value.message
    with pytest.raises(BadTask, match="so it must be async"):
        client.durable_task(plain)
    assert not client.tasks


def test_cron_of_a_declaration_names_the_task_and_the_field() -> None:
    with pytest.raises(BadCron) as caught:
        HatchetClient().task(crons=["* * * * *", "61 * * * *"])(plain)
    assert caught.value.message.startswith("task 'plain': cron '61 * * * *', field minute: ")


def test_an_unknown_option_names_those_that_there_are() -> None:
    with pytest.raises(BadArgument) as caught:
        HatchetClient().task(cron="* * * * *")(plain)  # type: ignore[call-overload]
    assert "crons" in caught.value.hint


@pytest.mark.parametrize("second", ["plain", "PLAIN", "Plain"])
def test_a_name_is_taken_once_whatever_its_case(second: str) -> None:
    client = HatchetClient()
    client.task(plain)
    with pytest.raises(TaskRegisteredTwice) as caught:
        client.durable_task(name=second)(durable)
    assert ("does not tell it from 'plain'" in caught.value.message) == (second != "plain")
    assert list(client.tasks) == ["plain"]


@pytest.fixture
def mail() -> Task:
    client = HatchetClient()

    @client.task(name="mail")
    def send(input: Mail, ctx: Any) -> None: ...

    return send


@pytest.fixture
def any_dict() -> Task:
    return HatchetClient().task(name="any")(plain)


def test_inputs_that_fit(mail: Task, any_dict: Task) -> None:
    assert mail.accept(Mail(to="ada")) == {"to": "ada", "at": None}
    assert mail.accept({"to": "ada", "at": "2026-01-01T00:00:00"}) == {"to": "ada", "at": "2026-01-01T00:00:00"}
    assert mail.argument({"to": "ada"}) == Mail(to="ada")
    assert any_dict.accept(None) == {}
    assert any_dict.accept({"a": [1, {"b": "\\u0000"}]}) == {"a": [1, {"b": "\\u0000"}]}
    assert any_dict.accept(Mail(to="ada")) == {"to": "ada", "at": None}


class Password(BaseModel):
    password: int


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([1], "a dict or a pydantic model is wanted, not list"),
        ("text", "not str"),
        ({"at": datetime(2026, 1, 1)}, "no plain JSON"),  # noqa: DTZ001
        ({"x": float("nan")}, "no plain JSON"),
        ({1: "x"}, "its keys must be texts"),
        ({"x": "a\x00b"}, "a NUL character"),
        ({"x": "y" * 5_000_000}, "a message takes"),
    ],
)
def test_inputs_that_do_not(any_dict: Task, given: Any, why: str) -> None:
    with pytest.raises(BadInput) as caught:
        any_dict.accept(given)
    assert why in caught.value.message
    assert len(caught.value.message) < 400


def test_an_input_that_does_not_fit_its_model_is_not_quoted(mail: Task) -> None:
    with pytest.raises(BadInput, match="to: Field required"):
        mail.accept({})
    with pytest.raises(BadInput, match="Mail or a dict is wanted, not Password"):
        mail.accept(Password(password=1))
    task = HatchetClient().task(name="secret", input=Password)(plain)
    with pytest.raises(BadInput) as caught:
        task.accept({"password": "hunter2"})
    assert "password: Input should be a valid integer" in caught.value.message
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint} {caught.value.detail}"


def test_outputs(any_dict: Task) -> None:
    assert any_dict.output(None) == {}
    assert any_dict.output({"a": (1, 2)}) == {"a": [1, 2]}
    assert any_dict.output(Mail(to="ada")) == {"to": "ada", "at": None}
    assert any_dict.output(Sent(3)) == {"count": 3}
    for bad, why in (
        (17, "gave back int"),
        ([1], "gave back list"),
        ({"x": {1, 2}}, "no plain JSON"),
        ({"x": "\x00"}, "NUL"),
        (Sent, "gave back type"),
    ):
        with pytest.raises(TypeError, match=why):
            any_dict.output(bad)
