"""Tasks as they are declared: every argument checked at the decorator, inputs checked before they are sent.

A task knows nothing of an engine: `worker` makes hatchet-sdk's own of it, `mock` calls its function.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from owlclaw_up.client import cron
from owlclaw_up.client.durations import seconds_of
from owlclaw_up.client.errors import BadArgument, BadCron, BadInput, BadTask

# The engine's own rule: `Hatchet names must match the regex ^[a-zA-Z0-9\.\-_]+$`.
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_NAME_LENGTH = 200
_MOST_RETRIES = 100
# gRPC messages end at 4 MiB on both sides: hatchet_sdk/config.py; the rest of a message needs a little of it.
_LONGEST_INPUT = 4 * 1024 * 1024 - 64 * 1024


@dataclass(frozen=True)
class Task:
    """A declared task, which still is the plain function when it is called.

    Attributes:
        timeout, schedule_timeout: seconds that one attempt may run, and that it may wait for a worker.
        retries: attempts after the first.
        crons: checked expressions, in UTC.
        concurrency: how many runs may run at the same time; None is no limit.
        input: a pydantic model, or None for a plain dict.
    """

    name: str
    function: Callable[..., Any]
    durable: bool
    timeout: float = 60.0
    schedule_timeout: float = 300.0
    retries: int = 0
    crons: tuple[str, ...] = ()
    concurrency: int | None = None
    input: type[Any] | None = None
    is_async: bool = field(default=True, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def longest(self) -> float:
        """Seconds after which the engine itself has ended a run, whatever happens."""
        return (self.timeout + self.schedule_timeout) * (self.retries + 1) + 30.0

    def accept(self, given: object) -> dict[str, Any]:
        """The JSON-ready form of an input.

        Raises:
            BadInput: it does not fit the model, is no plain JSON, or is too long for a message.
        """
        if self.input is not None:
            given = self._modelled(given)
        if given is None:
            given = {}
        if hasattr(given, "model_dump"):
            given = given.model_dump(mode="json")
        if not isinstance(given, Mapping):
            raise BadInput(self.name, f"a dict or a pydantic model is wanted, not {type(given).__name__}")
        data = dict(given)
        if not all(isinstance(key, str) for key in data):
            raise BadInput(self.name, "its keys must be texts")
        try:
            text = json.dumps(data, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadInput(self.name, f"it is no plain JSON ({error})"[:300]) from None
        if "\\u0000" in text.replace("\\\\", ""):
            raise BadInput(self.name, "it has a NUL character, which PostgreSQL does not keep")
        if len(text) > _LONGEST_INPUT:
            raise BadInput(self.name, f"it is {len(text)} bytes of JSON, and a message takes {_LONGEST_INPUT}")
        loaded: dict[str, Any] = json.loads(text)
        return loaded

    def argument(self, data: dict[str, Any]) -> Any:
        """What the function gets: the model of an input, or the dict itself."""
        return data if self.input is None else self.input.model_validate(data)

    def output(self, value: object) -> dict[str, Any]:
        """The JSON-ready form of what the function gave back; nothing is an empty dict, as on an engine.

        Raises:
            TypeError: it is none of dict, pydantic model, dataclass, None, or no JSON.
        """
        if value is None:
            return {}
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if not isinstance(value, Mapping):
            raise TypeError(
                f"task {self.name!r} gave back {type(value).__name__}; a dict, a pydantic model, a dataclass or None is wanted"
            )
        try:
            text = json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"task {self.name!r} gave back what is no plain JSON: {error}") from None
        if "\\u0000" in text.replace("\\\\", ""):
            raise TypeError(f"task {self.name!r} gave back a NUL character, which PostgreSQL does not keep")
        loaded: dict[str, Any] = json.loads(text)
        return loaded

    def _modelled(self, given: object) -> Any:
        from pydantic import ValidationError

        assert self.input is not None
        if isinstance(given, self.input):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise BadInput(self.name, f"{self.input.__name__} or a dict is wanted, not {type(given).__name__}")
        try:
            return self.input.model_validate({} if given is None else dict(given))
        except ValidationError as error:
            # Without the values: an input may hold a secret.
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or self.input.__name__
            more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
            raise BadInput(self.name, f"{where}: {first['msg']}{more}") from None


def declare(
    function: object,
    *,
    durable: bool,
    name: object,
    timeout: object,
    schedule_timeout: object,
    retries: object,
    crons: object,
    concurrency: object,
    input: object,
) -> Task:
    """Check a declaration.

    Raises:
        BadTask: an argument, or the function itself, cannot be a task; BadCron of `crons` as well.
    """
    if not callable(function) or inspect.isclass(function):
        raise BadTask(repr(function)[:60], "a function is wanted", "@client.task, or @client.task(name=...)")
    name = getattr(function, "__name__", "") if name is None else name
    _check_name(name)
    assert isinstance(name, str)
    is_async = inspect.iscoroutinefunction(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadTask(name, "it yields, and a task returns", "return a dict")
    if durable and not is_async:
        raise BadTask(name, "a durable task waits, so it must be async", "async def ...")
    _check_parameters(name, function)
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= _MOST_RETRIES:
        raise BadTask(name, f"retries = {retries!r} is not in 0 to {_MOST_RETRIES}", "retries=3")
    if concurrency is not None and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
    ):
        raise BadTask(name, f"concurrency = {concurrency!r} is no number of runs above 0", "concurrency=1")
    if isinstance(crons, str) or not isinstance(crons, Sequence):
        raise BadTask(name, "crons is a list of expressions", "crons=['*/5 * * * *']")
    try:
        seconds = seconds_of("timeout", timeout), seconds_of("schedule_timeout", schedule_timeout)
        checked = tuple(cron.parse(expression).expression for expression in crons)
    except BadArgument as error:
        raise BadTask(name, error.message, error.hint) from None
    except BadCron as error:
        raise BadCron(error.expression, error.why, field=error.field, hint=error.hint, task=name) from None
    for what, period in zip(("timeout", "schedule_timeout"), seconds, strict=True):
        if period != int(period):
            raise BadTask(
                name, f"{what} = {period:g} s, and the engine counts whole seconds", f"{what}={int(period) + 1}"
            )
    model = _model_of(name, function, input)
    task = Task(name, function, durable, *seconds, retries, checked, concurrency, model, is_async)
    if checked:
        try:
            task.accept(None)
        except BadInput as error:
            why = f"its crons start it without an input, and {error.message.partition(': ')[2]}"
            raise BadTask(name, why, "give every field of the model a default") from None
    return task


def _check_name(name: object) -> None:
    hint = "name='send-mail'"
    if not isinstance(name, str):
        raise BadTask(repr(name)[:60], "its name must be a text", hint)
    if not name:
        raise BadTask(name, "its name is empty", hint)
    if len(name) > _NAME_LENGTH:
        raise BadTask(f"{name[:40]}...", f"its name has {len(name)} characters, and {_NAME_LENGTH} are taken", hint)
    if not _NAME.fullmatch(name):
        wrong = next(c for c in name if not _NAME.fullmatch(c))
        why = f"its name has {wrong!r}; the engine takes letters of a to z, digits, '.', '-' and '_'"
        raise BadTask(name, why, hint)


def _check_parameters(name: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(object(), object())
    except TypeError:
        raise BadTask(name, "it is called with two arguments", "def name(input, ctx): ...") from None


def _model_of(name: str, function: Callable[..., Any], given: object) -> type[Any] | None:
    """The pydantic model of the input: the argument, else the annotation of the first parameter."""
    if given is None:
        given = _annotation(name, function)
    elif given is not dict and not _is_model(given):
        raise BadTask(name, f"input = {given!r:.60} is no pydantic model, and not dict", "input=MyModel")
    return given if _is_model(given) else None  # type: ignore[return-value]


def _annotation(name: str, function: Callable[..., Any]) -> object:
    first = next(iter(inspect.signature(function).parameters.values()))
    if isinstance(first.annotation, str):
        try:
            # The other names may be there for type checkers only.
            wrapped = type("_", (), {"__annotations__": {"input": first.annotation}, "__module__": function.__module__})
            return typing.get_type_hints(wrapped, globalns=getattr(function, "__globals__", {}))["input"]
        except (NameError, AttributeError, TypeError, SyntaxError):
            if first.annotation.startswith(("dict", "Dict", "Mapping")):
                return None
            why = f"the type {first.annotation!r} of its input cannot be found where it is declared"
            raise BadTask(name, why, f"name it: @client.task(input={first.annotation})") from None
    return first.annotation


def _is_model(value: object) -> bool:
    return isinstance(value, type) and hasattr(value, "model_validate") and hasattr(value, "model_json_schema")
