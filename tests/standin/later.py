"""Crons and schedules over REST."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

from .store import Cron, Store, rfc3339
from .web import Request, Response


class LaterApi:
    """The endpoints; the first of an address's ids is the tenant, which the caller's check has seen."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[tuple[str, str, Callable[[Request, str], Awaitable[Response]]]]:
        """Give method, path and endpoint of each."""
        tenant, number = r"/api/v1/tenants/([^/]+)/workflows", "([^/]+)"
        return [
            ("POST", f"{tenant}/{number}/crons", self._create),
            ("GET", f"{tenant}/crons", self._list),
            ("GET", f"{tenant}/crons/{number}", self._get),
            ("DELETE", f"{tenant}/crons/{number}", self._delete),
            ("DELETE", f"{tenant}/scheduled/{number}", self._unschedule),
        ]

    async def _create(self, request: Request, tenant: str) -> Response:
        workflow = self._store.workflow(tenant, request.path.split("/")[6])
        if workflow is None:
            return Response.json({"errors": [{"description": "workflow not found"}]}, 400)
        given = json.loads(request.body)
        name, expression = str(given["cronName"]), str(given["cronExpression"])
        for known in self._store.crons.values():
            if (known.tenant, known.workflow, known.name, known.expression) == (
                tenant,
                workflow.name,
                name,
                expression,
            ):
                text = "cron trigger with that name-expression pair already exists"
                return Response.json({"errors": [{"description": text}]}, 400)
        data, metadata = json.dumps(given.get("input") or {}), dict(given.get("additionalMetadata") or {})
        cron = Cron(str(uuid4()), tenant, workflow.name, name, expression, data, metadata)
        self._store.crons[cron.id] = cron
        await self._store.save("cron", cron)
        return Response.json(self._describe(cron))

    async def _list(self, request: Request, tenant: str) -> Response:
        rows = [
            self._describe(cron)
            for cron in self._store.crons.values()
            if cron.tenant == tenant
            and request.parameter("cronName") in (None, cron.name)
            and request.parameter("workflowName") in (None, cron.workflow)
        ]
        return Response.json({"pagination": {"current_page": 1, "next_page": 1, "num_pages": 1}, "rows": rows})

    async def _get(self, request: Request, tenant: str) -> Response:
        cron = self._store.crons.get(request.path.rpartition("/")[2])
        if cron is None or cron.tenant != tenant:
            return Response.json({"message": "not found"}, 404)
        return Response.json(self._describe(cron))

    async def _delete(self, request: Request, tenant: str) -> Response:
        cron = self._store.crons.get(request.path.rpartition("/")[2])
        if cron is None or cron.tenant != tenant:
            return Response.json({"message": "Internal Server Error"}, 500)
        await self._store.forget("cron", cron)
        return Response(204)

    async def _unschedule(self, request: Request, tenant: str) -> Response:
        number = request.path.rpartition("/")[2]
        schedule = self._store.schedules.get(number)
        try:
            UUID(number)
        except ValueError:
            return Response.json({"message": "invalid workflow-scheduled id"}, 400)
        if schedule is None or schedule.tenant != tenant:
            return Response.json({"message": "scheduled workflow run not found"}, 404)
        await self._store.forget("schedule", schedule)
        return Response(204)

    def _describe(self, cron: Cron) -> dict[str, Any]:
        workflow = self._store.workflow(cron.tenant, cron.workflow)
        stamp = rfc3339(cron.created)
        return {
            "additionalMetadata": cron.metadata,
            "cron": cron.expression,
            "enabled": True,
            "input": json.loads(cron.input),
            "metadata": {"createdAt": stamp, "id": cron.id, "updatedAt": stamp},
            "method": "DEFAULT" if cron.declared else "API",
            "name": cron.name,
            "priority": 1,
            "tenantId": cron.tenant,
            "workflowId": workflow.id if workflow else "",
            "workflowName": cron.workflow,
            "workflowVersionId": workflow.version if workflow else "",
        }
