"""The objects of hatchet-sdk, made from ours: its configuration with every value given, its tasks around our functions."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.errors import BadConfig
from owlclaw_up.client.tasks import Task

if TYPE_CHECKING:
    from hatchet_sdk import Hatchet
    from hatchet_sdk.config import ClientConfig
    from hatchet_sdk.runnables.workflow import Standalone
    from pydantic import ValidationError


def load_sdk() -> None:
    """Import hatchet-sdk; the first time takes a second.

    Raises:
        BadConfig: a `HATCHET_CLIENT_*` variable, or dotenv file of the working directory, that it reads while it loads.
    """
    if "hatchet_sdk" in sys.modules:
        return
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            # It uses what a newer tenacity calls old, which is not for its users to mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            import hatchet_sdk  # noqa: F401
    except ValidationError as error:
        raise _refused(error) from None


def _refused(error: ValidationError) -> BadConfig:
    # Without the values: one of them is the token.
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or error.title
    return BadConfig(
        f"{error.title}.{name}", "...", f"hatchet-sdk does not take it: {first['msg']}",
        hint="it reads HATCHET_CLIENT_* variables, and .env, .env.hatchet, .env.dev and .env.local: env | grep HATCHET_",
    )  # fmt: skip


def sdk_config(config: HatchetConfig, *, attempts: int | None = None) -> ClientConfig:
    """The SDK's configuration; of the dotenv files that it reads by itself none is read.

    Args:
        attempts: how often the SDK tries a call, 0 for once and by itself; None is its own default.
    """
    from hatchet_sdk.config import ClientConfig, ClientTLSConfig, HealthcheckConfig, OpenTelemetryConfig, TenacityConfig
    from pydantic import ValidationError

    # pydantic-settings takes `_env_file` without declaring it.
    none: dict[str, Any] = {"_env_file": None}
    retries: dict[str, Any] = {} if attempts is None else {"max_attempts": attempts}
    try:
        tls = ClientTLSConfig(
            **none, strategy=config.tls_strategy, cert_file=config.tls_cert_file or None,
            key_file=config.tls_key_file or None, root_ca_file=config.tls_root_ca_file or None,
            server_name=config.tls_server_name or config.host,
        )  # fmt: skip
        return ClientConfig(
            **none, token=config.secret.reveal(), host_port=config.host_port, server_url=config.server_url,
            tenant_id=config.tenant_id, namespace=config.namespace, tls_config=tls,
            healthcheck=HealthcheckConfig(**none), otel=OpenTelemetryConfig(**none),
            tenacity=TenacityConfig(**none, **retries),
        )  # fmt: skip
    except ValidationError as error:
        raise _refused(error) from None


def sdk_task(hatchet: Hatchet, task: Task) -> Standalone[Any, Any]:
    """The SDK's form of a task: its input as declared, what it gives back checked as in mock."""
    declare: Callable[..., Any] = hatchet.durable_task if task.durable else hatchet.task
    made: Standalone[Any, Any] = declare(
        name=task.name,
        input_validator=task.input or dict[str, Any],
        execution_timeout=timedelta(seconds=task.timeout),
        schedule_timeout=timedelta(seconds=task.schedule_timeout),
        retries=task.retries,
        on_crons=list(task.crons),
        concurrency=task.concurrency,
    )(_wrapped(task))
    return made


def _wrapped(task: Task) -> Callable[[Any, Any], Any]:
    # Without the function's annotations, which may be there for type checkers only: the SDK would resolve them.
    async def run(input, ctx):  # type: ignore[no-untyped-def]
        return task.output(await task.function({} if input is None else input, ctx))

    def run_blocking(input, ctx):  # type: ignore[no-untyped-def]
        return task.output(task.function({} if input is None else input, ctx))

    wrapped = run if task.is_async else run_blocking
    wrapped.__name__ = task.name
    wrapped.__annotations__ = {"return": dict[str, Any]}
    return wrapped


async def sdk_child(config: HatchetConfig, task: str, data: dict[str, Any], metadata: dict[str, str]) -> str:
    """Start a run as the child of the durable task that runs here, and give its id."""
    from hatchet_sdk import Hatchet

    stub = Hatchet(config=sdk_config(config)).stubs.task(name=task, input_validator=dict[str, Any])
    reference = await stub.aio_run(data, wait_for_result=False, additional_metadata=metadata)
    return str(reference.workflow_run_id)
