"""REST to an engine, by hatchet-sdk's generated calls: what gRPC does not have. Every call has a deadline and blocks.

REST is fed by a pipeline of its own and may be a moment behind.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.errors import EngineRefused, ServerGone, TokenRefused
from owlclaw_up.client.runs import TaskStatus
from owlclaw_up.client.sdk import load_sdk

if TYPE_CHECKING:
    from hatchet_sdk.clients.rest.api.workflow_api import WorkflowApi
    from hatchet_sdk.clients.rest.api.workflow_run_api import WorkflowRunApi
    from hatchet_sdk.clients.rest.api.workflow_runs_api import WorkflowRunsApi
    from hatchet_sdk.clients.rest.api_client import ApiClient

T = TypeVar("T")

_PAGE = 100


class EngineRest:
    """Calls to one engine."""

    def __init__(self, config: HatchetConfig) -> None:
        self._config = config

    def run(self, id: str) -> TaskStatus | None:
        """A run as REST knows it, or None where it does not, yet or any more."""

        def ask(client: ApiClient) -> Any:
            return _runs(client).v1_workflow_run_get(id, _request_timeout=self._seconds)

        found = self._ask("describe a run", ask)
        if found is None or not found.tasks:
            return None
        return self._status(found.tasks[0])

    def runs(
        self, since: datetime, status: str | None, workflow: str | None, metadata: dict[str, str], limit: int
    ) -> list[TaskStatus]:
        """The newest runs, newest first.

        Args:
            workflow: id of a workflow, not its name.
        """
        load_sdk()
        from hatchet_sdk.clients.rest.models.v1_additional_metadata_operator import V1AdditionalMetadataOperator
        from hatchet_sdk.clients.rest.models.v1_task_status import V1TaskStatus

        def ask(client: ApiClient) -> Any:
            return _runs(client).v1_workflow_run_list(
                tenant=self._config.tenant_id, since=since, only_tasks=True, limit=limit, include_payloads=True,
                statuses=[V1TaskStatus(status)] if status else None,
                workflow_ids=[workflow] if workflow else None,
                additional_metadata=[f"{key}:{value}" for key, value in metadata.items()] or None,
                additional_metadata_operator=V1AdditionalMetadataOperator.AND,
                _request_timeout=self._seconds,
            )  # fmt: skip

        found = self._ask("list runs", ask)
        return [self._status(row) for row in found.rows] if found else []

    def workflow(self, name: str) -> str | None:
        """The id of a workflow, by its name with the namespace; None where the engine does not know it."""

        def ask(client: ApiClient) -> Any:
            return _workflows(client).workflow_list(
                tenant=self._config.tenant_id, name=name, limit=200, _request_timeout=self._seconds
            )

        found = self._ask("look for a task", ask)
        # The engine's own search takes more than the name.
        return next((row.metadata.id for row in (found.rows or []) if row.name == name), None) if found else None

    def add_cron(
        self, workflow: str, name: str, expression: str, data: dict[str, Any], metadata: dict[str, str]
    ) -> str:
        """Make a cron and give its id.

        Raises:
            EngineRefused: with the engine's words.
        """
        load_sdk()
        from hatchet_sdk.clients.rest.models.create_cron_workflow_trigger_request import (
            CreateCronWorkflowTriggerRequest,
        )

        request = CreateCronWorkflowTriggerRequest(
            cronName=name, cronExpression=expression, input=data, additionalMetadata=metadata
        )

        def ask(client: ApiClient) -> Any:
            return _crons(client).cron_workflow_trigger_create(
                tenant=self._config.tenant_id, workflow=workflow, create_cron_workflow_trigger_request=request,
                _request_timeout=self._seconds,
            )  # fmt: skip

        made = self._ask("make the cron", ask)
        if made is None:
            raise EngineRefused("make the cron", "workflow not found")
        return str(made.metadata.id)

    def find_cron(self, workflow: str, name: str, expression: str) -> str:
        """The id of a cron, empty where there is none."""

        def ask(client: ApiClient) -> Any:
            return _workflows(client).cron_workflow_list(
                tenant=self._config.tenant_id, cron_name=name, workflow_name=workflow, limit=100,
                _request_timeout=self._seconds,
            )  # fmt: skip

        found = self._ask("list crons", ask)
        rows = (found.rows or []) if found else []
        return next((str(row.metadata.id) for row in rows if row.cron == expression and row.name == name), "")

    def delete_cron(self, id: str) -> bool:
        """Remove a cron; False where there is none."""

        def ask(client: ApiClient) -> Any:
            _workflows(client).workflow_cron_delete(
                tenant=self._config.tenant_id, cron_workflow=id, _request_timeout=self._seconds
            )
            return True

        # To look for one that is not there, or to delete it, is an internal error of the engine.
        return self._has_cron(id) and self._ask("delete the cron", ask) is not None

    def _has_cron(self, id: str) -> bool:
        seen = 0
        while True:

            def ask(client: ApiClient, offset: int = seen) -> Any:
                return _workflows(client).cron_workflow_list(
                    tenant=self._config.tenant_id, offset=offset, limit=_PAGE, _request_timeout=self._seconds
                )

            found = self._ask("list crons", ask)
            rows = (found.rows or []) if found else []
            if any(str(row.metadata.id) == id for row in rows):
                return True
            seen += len(rows)
            if len(rows) < _PAGE:
                return False

    def delete_schedule(self, id: str) -> bool:
        """Remove a run that was to come; False where there is none, or it has come."""

        def ask(client: ApiClient) -> Any:
            _workflows(client).workflow_scheduled_delete(
                tenant=self._config.tenant_id, scheduled_workflow_run=id, _request_timeout=self._seconds
            )
            return True

        return self._ask("delete the schedule", ask) is not None

    @property
    def _seconds(self) -> float:
        return float(self._config.connect_timeout)

    def _ask(self, what: str, call: Callable[[ApiClient], T]) -> T | None:
        """One call; None for 404.

        Raises:
            ServerGone, TokenRefused, EngineRefused: as the names say.
        """
        load_sdk()
        from hatchet_sdk.clients.rest import exceptions
        from hatchet_sdk.clients.rest.api_client import ApiClient
        from hatchet_sdk.clients.rest.configuration import Configuration

        config = self._config
        made = Configuration(
            host=config.server_url.rstrip("/"), access_token=config.secret.reveal(),
            ssl_ca_cert=config.tls_root_ca_file or None, retries=0,
        )  # fmt: skip
        made.datetime_format = "%Y-%m-%dT%H:%M:%S.%fZ"
        client = ApiClient(made)
        try:
            return call(client)
        except exceptions.NotFoundException:
            return None
        except (exceptions.UnauthorizedException, exceptions.ForbiddenException) as error:
            words = f"HTTP {error.status}: {error.body}"
            raise TokenRefused(config.server_url, config.origins.get("token", "argument"), words) from None
        except exceptions.RestTransportError as error:
            first = str(error.reason).splitlines()
            raise ServerGone(
                config.server_url, "REST", first[0] if first else "no answer", detail=str(error.reason)
            ) from None
        except exceptions.ApiException as error:
            raise EngineRefused(what, f"HTTP {error.status}: {error.body}") from None
        except ValueError as error:
            # Something else listens there: the answer is none of the engine's.
            raise ServerGone(
                config.server_url, "REST", "the answer is not an engine's", detail=str(error)[:500]
            ) from None
        finally:
            client.rest_client.pool_manager.clear()

    def _status(self, row: Any) -> TaskStatus:
        status = str(row.status.value)
        error = str(row.error_message or "")
        if not error and row.started_at is None:
            error = "SCHEDULING_TIMED_OUT: no worker took it in time"
        return TaskStatus(
            str(row.workflow_run_external_id or row.metadata.id),
            str(row.workflow_name or "").removeprefix(namespace_prefix(self._config)),
            status,
            created=_moment(row.metadata.created_at),
            started=_moment(row.started_at),
            finished=_moment(row.finished_at),
            error=error if status == "FAILED" else "",
            output=dict(row.output or {}) if status == "COMPLETED" else None,
            metadata=dict(row.additional_metadata or {}),
        )


def _moment(given: datetime | None) -> datetime | None:
    """An instant; the engine's zero is none."""
    return None if given is None or given.year == 1 else given


def namespace_prefix(config: HatchetConfig) -> str:
    """As hatchet_sdk/config.py, `validate_namespace`."""
    space = config.namespace.lower()
    return space if not space or space.endswith("_") else f"{space}_"


def _runs(client: ApiClient) -> WorkflowRunsApi:
    from hatchet_sdk.clients.rest.api.workflow_runs_api import WorkflowRunsApi

    return WorkflowRunsApi(client)


def _workflows(client: ApiClient) -> WorkflowApi:
    from hatchet_sdk.clients.rest.api.workflow_api import WorkflowApi

    return WorkflowApi(client)


def _crons(client: ApiClient) -> WorkflowRunApi:
    from hatchet_sdk.clients.rest.api.workflow_run_api import WorkflowRunApi

    return WorkflowRunApi(client)
