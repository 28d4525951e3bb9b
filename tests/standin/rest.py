"""The REST API of the stand-in: what hatchet-sdk 1.43.1 asks for and what people use to make tokens."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg

from .authority import Authority, bearer
from .golang import DurationError, parse_duration
from .later import LaterApi
from .misbehave import fault, version
from .store import Run, Store, Worker, rfc3339
from .tokens import TokenRefusedError, server_url
from .web import Request, Response

_NOBODY = {"message": "Please provide valid credentials"}
_FORBIDDEN = {"message": "Not authorized to perform this operation"}
_NOT_FOUND = {"message": "not found"}
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"

Endpoint = Callable[[Request, "Caller", str], Awaitable[Response]]


class Caller:
    """Who asks: a token of a tenant, a person with a cookie, or nobody."""

    def __init__(self, tenant: str | None = None, user: str | None = None) -> None:
        self.tenant = tenant
        self.user = user


def _error(text: str, status: int = 400) -> Response:
    return Response.json({"errors": [{"description": text}]}, status)


def _true(name: str, default: str = "f") -> bool:
    return (os.environ.get(name) or default).lower() in ("t", "true", "1")


def _metadata(number: object, created: datetime, updated: datetime) -> dict[str, str]:
    def stamp(moment: datetime) -> str:
        return moment.strftime(_STAMP)[:-4] + "Z"

    return {"createdAt": stamp(created), "id": str(number), "updatedAt": stamp(updated)}


class RestApi:
    """Answers everything below ``/api``."""

    def __init__(self, store: Store, authority: Authority) -> None:
        self._store = store
        self._authority = authority
        tenant, number = r"/api/v1/tenants/([^/]+)", "([^/]+)"
        stable = r"/api/v1/stable/tenants/([^/]+)"
        # Method, path, who may (any, token-or-person, person), endpoint.
        routes: list[tuple[str, str, str, Endpoint]] = [
            ("GET", "/api/ready", "any", self._ready),
            ("GET", "/api/live", "any", self._ready),
            ("GET", "/api/v1/meta", "any", self._meta),
            ("GET", "/api/v1/version", "any", self._version),
            ("POST", "/api/v1/users/login", "any", self._log_in),
            ("POST", "/api/v1/users/register", "any", self._register),
            ("POST", "/api/v1/users/logout", "person", self._log_out),
            ("GET", "/api/v1/users/current", "person", self._current),
            ("GET", "/api/v1/users/memberships", "person", self._memberships),
            ("GET", tenant, "both", self._tenant),
            ("GET", tenant + "/api-tokens", "both", self._tokens),
            ("POST", tenant + "/api-tokens", "both", self._create_token),
            ("POST", "/api/v1/api-tokens/" + number, "both", self._revoke_token),
            ("GET", tenant + "/worker", "both", self._workers),
            ("GET", tenant + "/workflows", "both", self._workflows),
            ("GET", "/api/v1/workers/" + number, "both", self._worker),
            ("PATCH", "/api/v1/workers/" + number, "both", self._worker),
            ("GET", stable + "/workflow-runs", "both", self._runs),
            ("POST", stable + "/tasks/cancel", "both", self._cancel),
            ("GET", "/api/v1/stable/workflow-runs/" + number, "both", self._run),
            ("GET", "/api/v1/stable/workflow-runs/" + number + "/status", "both", self._run_status),
            ("GET", "/api/v1/stable/tasks/" + number, "both", self._task),
        ]
        for method, path, later in LaterApi(store).routes():
            routes.append((method, path, "both", self._of_member(later)))
        self._routes = [(method, re.compile(path), who, endpoint) for method, path, who, endpoint in routes]

    def _of_member(self, endpoint: Callable[[Request, str], Awaitable[Response]]) -> Endpoint:
        async def checked(request: Request, caller: Caller, tenant: str) -> Response:
            if not await self._member(caller, tenant):
                return Response.json(_NOBODY, 403)
            return await endpoint(request, tenant)

        return checked

    async def answer(self, request: Request) -> Response:
        """Answer one request; what is not known here answers 403 and ``null``, as the real API does."""
        for method, path, who, endpoint in self._routes:
            match = path.fullmatch(request.path)
            if match is None or method != request.method:
                continue
            argument = match.group(1) if match.groups() else ""
            try:
                if who == "any":
                    return await endpoint(request, Caller(), argument)
                return await self._with_caller(request, who, endpoint, argument)
            except psycopg.Error as error:
                return _error(f"internal server error: {type(error).__name__}", 500)
        return Response.json(None, 403)

    async def _with_caller(self, request: Request, who: str, endpoint: Endpoint, argument: str) -> Response:
        if request.path.split("/")[3] == "tenants" or "/stable/tenants/" in request.path:
            try:
                UUID(argument)
            except ValueError:
                return Response.json({"message": "invalid tenant id"}, 400)
            # The tenant is looked up before the caller is, so that an unknown one is 404 for everybody.
            if not await self._store.database.rows('SELECT 1 FROM "Tenant" WHERE id = %s', (argument,)):
                return Response.json(_NOT_FOUND, 404)
        caller = await self._caller(request, who)
        if caller is None:
            return Response.json(_NOBODY, 403, {"Set-Cookie": self._cookie("")})
        return await endpoint(request, caller, argument)

    async def _caller(self, request: Request, who: str) -> Caller | None:
        token = bearer(dict(request.headers))
        if token is not None:
            if who == "person":
                return None
            try:
                return Caller(tenant=await self._authority.tenant(token, "rest"))
            except TokenRefusedError:
                return None
        user = self._authority.user(self._cookie_of(request))
        return Caller(user=user) if user else None

    @staticmethod
    def _cookie_of(request: Request) -> str:
        found = re.search(r"(?:^|;\s*)hatchet=([^;]+)", request.headers.get("cookie", ""))
        return found.group(1) if found else ""

    def _cookie(self, user: str) -> str:
        month = timedelta(days=30)
        expires = (datetime.now(timezone.utc) + month).strftime("%a, %d %b %Y %H:%M:%S GMT")
        secure = "" if _true("SERVER_AUTH_COOKIE_INSECURE") else "; Secure"
        return (
            f"hatchet={self._authority.cookie(user)}; Path=/; Domain={os.environ['SERVER_AUTH_COOKIE_DOMAIN']}; "
            f"Expires={expires}; Max-Age={int(month.total_seconds())}; HttpOnly{secure}; SameSite=Lax"
        )

    async def _ready(self, request: Request, caller: Caller, argument: str) -> Response:
        if await self._store.database.healthy():
            return Response()
        return _error("api repository is not healthy", 500)

    async def _meta(self, request: Request, caller: Caller, argument: str) -> Response:
        return Response.json(
            {
                "allowChangePassword": True,
                "allowCreateTenant": True,
                "allowInvites": True,
                "allowSignup": _true("SERVER_ALLOW_SIGNUP", "t"),
                "auth": {"schemes": ["basic"]},
                "authDisabled": fault("lite.auth-disabled"),
                "observabilityEnabled": False,
                "prometheusServerEnabled": False,
                "pylonAppId": "",
            }
        )

    async def _version(self, request: Request, caller: Caller, argument: str) -> Response:
        return Response.json({"version": version()})

    async def _log_in(self, request: Request, caller: Caller, argument: str) -> Response:
        given = _body(request)
        email, password = str(given.get("email", "")), str(given.get("password", ""))
        if "@" not in email:
            return Response.json({"message": "email: failed to pass regex validation"}, 400)
        user = await self._authority.log_in(email, password)
        if user is None:
            return _error("invalid credentials")
        return Response.json(await self._user(user, has_password=False), 200, {"Set-Cookie": self._cookie(user)})

    async def _register(self, request: Request, caller: Caller, argument: str) -> Response:
        return _error("user signups are disabled")

    async def _log_out(self, request: Request, caller: Caller, argument: str) -> Response:
        domain = os.environ["SERVER_AUTH_COOKIE_DOMAIN"]
        gone = f"hatchet=; Path=/; Domain={domain}; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly; "
        gone += "SameSite=Lax"
        self._authority.log_out(self._cookie_of(request))
        return Response.json(await self._user(caller.user, has_password=False), 200, {"Set-Cookie": gone})

    async def _user(self, user: str | None, *, has_password: bool) -> dict[str, Any]:
        rows = await self._store.database.rows(
            'SELECT email, "emailVerified", name, "createdAt", "updatedAt" FROM "User" WHERE id = %s', (user,)
        )
        email, verified, name, created, updated = rows[0]
        return {
            "email": email,
            "emailVerified": verified,
            "hasPassword": has_password,
            "metadata": _metadata(user, created, updated),
            "name": name,
        }

    async def _current(self, request: Request, caller: Caller, argument: str) -> Response:
        return Response.json(await self._user(caller.user, has_password=True))

    async def _memberships(self, request: Request, caller: Caller, argument: str) -> Response:
        rows = await self._store.database.rows(
            'SELECT id, "createdAt", "updatedAt", "tenantId", role::text FROM "TenantMember" WHERE "userId" = %s',
            (caller.user,),
        )
        person = await self._user(caller.user, has_password=True)
        members = []
        for number, created, updated, tenant, role in rows:
            members.append(
                {
                    "canViewPayloads": True,
                    "metadata": _metadata(number, created, updated),
                    "role": role,
                    "tenant": await self._describe_tenant(str(tenant)),
                    "user": {"email": person["email"], "name": person["name"]},
                }
            )
        return Response.json({"rows": members})

    async def _describe_tenant(self, tenant: str) -> dict[str, Any]:
        rows = await self._store.database.rows(
            'SELECT name, slug, version::text, environment::text, "createdAt", "updatedAt" FROM "Tenant" WHERE id = %s',
            (tenant,),
        )
        name, slug, engine, environment, created, updated = rows[0]
        return {
            "alertMemberEmails": True,
            "analyticsOptOut": False,
            "environment": environment or "development",
            "metadata": _metadata(tenant, created, updated),
            "name": name,
            "slug": slug,
            "version": engine,
        }

    async def _member(self, caller: Caller, tenant: str) -> bool:
        if caller.tenant is not None:
            return caller.tenant == tenant
        return bool(
            await self._store.database.rows(
                'SELECT 1 FROM "TenantMember" WHERE "tenantId" = %s AND "userId" = %s', (tenant, caller.user)
            )
        )

    async def _tenant(self, request: Request, caller: Caller, argument: str) -> Response:
        if not await self._member(caller, argument):
            return Response.json(_NOBODY, 403)
        return Response.json(await self._describe_tenant(argument) | {"serverUrl": server_url()})

    async def _tokens(self, request: Request, caller: Caller, argument: str) -> Response:
        if caller.user is None or not await self._member(caller, argument):
            return Response.json(_FORBIDDEN, 401)
        rows = await self._store.database.rows(
            'SELECT id, name, "expiresAt", "createdAt", "updatedAt" FROM "APIToken" '
            'WHERE "tenantId" = %s AND NOT revoked AND NOT internal ORDER BY "createdAt"',
            (argument,),
        )
        listed = [
            {
                "expiresAt": _metadata("", expires, expires)["createdAt"],
                "metadata": _metadata(number, created, updated),
                "name": name,
            }
            for number, name, expires, created, updated in rows
        ]
        return Response.json({"rows": listed})

    async def _create_token(self, request: Request, caller: Caller, argument: str) -> Response:
        if caller.user is None or not await self._member(caller, argument):
            return Response.json(_FORBIDDEN, 401)
        given = _body(request)
        try:
            lifetime = parse_duration(str(given.get("expiresIn") or "2160h"))
        except DurationError:
            text = (
                "validation failed on field 'CreateAPITokenRequest.ExpiresIn': Invalid duration. Durations must be one "
                "or more <number><unit> components, where unit is one of: 'ms', 's', 'm', 'h'. "
                "For example: '10s', '1h30m', '1.5h'"
            )
            return Response.json({"errors": [{"description": text, "field": "expiresin"}]}, 400)
        return Response.json({"token": await self._authority.issue(argument, str(given.get("name", "")), lifetime)})

    async def _revoke_token(self, request: Request, caller: Caller, argument: str) -> Response:
        if caller.user is None:
            return Response.json(_FORBIDDEN, 401)
        try:
            UUID(argument)
        except ValueError:
            return Response.json({"message": "invalid api-token id"}, 400)
        changed = await self._store.database.rows(
            'UPDATE "APIToken" SET revoked = true WHERE id = %s RETURNING id', (argument,)
        )
        return Response(204) if changed else Response.json(_NOT_FOUND, 404)

    def _describe_worker(self, worker: Worker) -> dict[str, Any]:
        status = "INACTIVE"
        if self._store.is_active(worker):
            status = "PAUSED" if worker.paused else "ACTIVE"
        return {
            "actions": worker.actions,
            "dispatcherId": self._store.dispatcher,
            "labels": [],
            "lastHeartbeatAt": rfc3339(worker.heartbeat),
            "metadata": {
                "createdAt": rfc3339(worker.created),
                "id": worker.id,
                "updatedAt": rfc3339(worker.heartbeat),
            },
            "name": worker.name,
            "runtimeInfo": worker.runtime,
            "slotConfig": {kind: {"available": count, "limit": count} for kind, count in worker.slots.items()},
            "status": status,
            "type": "SELFHOSTED",
        }

    async def _workers(self, request: Request, caller: Caller, argument: str) -> Response:
        if not await self._member(caller, argument):
            return Response.json(_NOBODY, 403)
        rows = [self._describe_worker(worker) for worker in self._store.workers.values() if worker.tenant == argument]
        return Response.json({"pagination": _pages(1 if rows else 0), "rows": rows})

    async def _worker(self, request: Request, caller: Caller, argument: str) -> Response:
        worker = self._store.workers.get(argument)
        if worker is None or not await self._member(caller, worker.tenant):
            return Response.json(_NOT_FOUND, 404)
        if request.method == "PATCH":
            worker.paused = bool(_body(request).get("isPaused", worker.paused))
            await self._store.save_worker(worker)
        return Response.json(self._describe_worker(worker))

    async def _workflows(self, request: Request, caller: Caller, argument: str) -> Response:
        if not await self._member(caller, argument):
            return Response.json(_NOBODY, 403)
        rows = [
            {
                "description": "",
                "isPaused": False,
                "metadata": {
                    "createdAt": rfc3339(item.created),
                    "id": item.id,
                    "updatedAt": rfc3339(item.created),
                },
                "name": item.name,
                "tenantId": "",
            }
            for item in self._store.workflows.values()
            if item.tenant == argument and request.parameter("name") in (None, item.name)
        ]
        return Response.json({"pagination": _pages(1 if rows else 0), "rows": rows})

    def _describe_run(self, run: Run, *, payloads: bool, kind: str) -> dict[str, Any]:
        workflow = self._store.workflow(run.tenant, run.workflow)
        created = rfc3339(run.created)
        whole = (run.finished - run.started) if run.finished and run.started else None
        running = run.status == "QUEUED" and run.worker is not None
        described: dict[str, Any] = {
            "actionId": workflow.action if workflow and kind == "TASK" else "",
            "additionalMetadata": run.metadata,
            "attempt": run.retry + 1,
            "createdAt": created,
            "displayName": run.display_name,
            "errorMessage": run.error,
            "input": payload(run) if payloads else {},
            "isDurable": bool(workflow and workflow.durable),
            "metadata": {"createdAt": created, "id": run.id, "updatedAt": created},
            "numSpawnedChildren": 0,
            "output": json.loads(run.output) if payloads and run.output else {},
            "retryCount": run.retry,
            "status": "RUNNING" if running else run.status,
            "stepId": workflow.version if workflow else None,
            "taskExternalId": run.id,
            "taskId": run.number,
            "taskInsertedAt": created,
            "tenantId": run.tenant,
            "type": kind,
            "workflowId": workflow.id if workflow else None,
            "workflowName": run.workflow,
            "workflowRunExternalId": run.id,
            "workflowVersionId": workflow.version if workflow else None,
        }
        if run.started:
            described["startedAt"] = rfc3339(run.started)
        if run.finished:
            described["finishedAt"] = rfc3339(run.finished)
        if whole is not None:
            described["duration"] = int(whole * 1000)
        return described

    async def _runs(self, request: Request, caller: Caller, argument: str) -> Response:
        if not await self._member(caller, argument):
            return Response.json(_NOBODY, 403)
        if request.parameter("only_tasks") is None:
            text = "Invalid format for parameter only_tasks: query parameter 'only_tasks' is required"
            return Response.json({"message": text}, 400)
        try:
            # The real one takes a missing ``since`` for "now": nothing is listed.
            since = _moment(request.parameter("since"), datetime.now(timezone.utc).timestamp())
            until = _moment(request.parameter("until"), float("inf"))
            limit, offset = int(request.parameter("limit") or 50), int(request.parameter("offset") or 0)
        except ValueError as error:
            return Response.json({"message": f"Invalid format for parameter: {error}"}, 400)
        wanted = [item.partition(":")[::2] for item in request.parameters("additional_metadata")]
        together = all if request.parameter("additional_metadata_operator") == "AND" else any
        workflows = request.parameters("workflow_ids")
        rows = []
        for run in sorted(self._store.runs.values(), key=lambda run: -run.created):
            workflow = self._store.workflow(run.tenant, run.workflow)
            described = self._describe_run(
                run,
                payloads=request.parameter("include_payloads") == "true",
                kind="TASK" if request.parameter("only_tasks") == "true" else "DAG",
            )
            fits = (
                run.tenant == argument
                and run.appeared
                and since <= run.created <= until
                and described["status"] in (request.parameters("statuses") or [described["status"]])
                and together([str(run.metadata.get(key)) == value for key, value in wanted] or [True])
                and (not workflows or (workflow is not None and workflow.id in workflows))
                and request.parameter("worker_id") in (None, run.worker)
            )
            if fits:
                rows.append(described)
        pages = -(-len(rows) // limit) if limit > 0 else 0
        page = 1 + offset // limit if limit > 0 else 1
        return Response.json({"pagination": _pages(pages, page), "rows": rows[offset : offset + limit]})

    async def _found(self, caller: Caller, argument: str) -> Run | Response:
        try:
            UUID(argument)
        except ValueError:
            return Response.json({"message": "invalid workflow run id"}, 400)
        run = self._store.runs.get(argument)
        if run is None or not run.appeared or not await self._member(caller, run.tenant):
            return Response.json(_NOT_FOUND, 404)
        return run

    async def _run(self, request: Request, caller: Caller, argument: str) -> Response:
        run = await self._found(caller, argument)
        if isinstance(run, Response):
            return run
        task = self._describe_run(run, payloads=True, kind="TASK")
        keys = [
            "additionalMetadata",
            "createdAt",
            "displayName",
            "duration",
            "errorMessage",
            "finishedAt",
            "input",
            "metadata",
            "output",
            "startedAt",
            "status",
            "tenantId",
            "workflowId",
            "workflowVersionId",
        ]
        workflow = self._store.workflow(run.tenant, run.workflow)
        name = workflow.task if workflow else run.workflow
        shape = {"childrenStepIds": [], "stepId": task["stepId"], "taskExternalId": run.id, "taskName": name}
        return Response.json(
            {
                "run": {key: task[key] for key in keys if key in task},
                "shape": [shape],
                "taskEvents": [],
                "tasks": [task],
            }
        )

    async def _run_status(self, request: Request, caller: Caller, argument: str) -> Response:
        run = await self._found(caller, argument)
        if isinstance(run, Response):
            return run
        return Response.json(self._describe_run(run, payloads=False, kind="TASK")["status"])

    async def _task(self, request: Request, caller: Caller, argument: str) -> Response:
        run = await self._found(caller, argument)
        if isinstance(run, Response):
            return run
        return Response.json(self._describe_run(run, payloads=True, kind="TASK") | {"input": json.loads(run.input)})

    async def _cancel(self, request: Request, caller: Caller, argument: str) -> Response:
        if not await self._member(caller, argument):
            return Response.json(_NOBODY, 403)
        wanted = [str(number) for number in _body(request).get("externalIds") or []]
        for number in wanted:
            run = self._store.runs.get(number)
            if run is not None and run.tenant == argument:
                await self._store.cancel(run)
        return Response.json({"ids": wanted})


def _body(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _pages(count: int, page: int = 1) -> dict[str, int]:
    return {"current_page": page, "next_page": page if count == 1 else page + 1, "num_pages": count}


def _moment(text: str | None, default: float) -> float:
    if not text:
        return default
    return datetime.fromisoformat(text.replace(" ", "+").replace("Z", "+00:00")).timestamp()


def payload(run: Run) -> dict[str, Any]:
    """Give a task's input in the envelope in which workers get it."""
    return {
        "input": json.loads(run.input),
        "overrides": None,
        "parents": {},
        "triggered_by": "manual",
        "triggers": {"filter_payload": None},
        "user_data": None,
    }
