"""/v1/organization: projects, their keys, and the keys of owners.

Only owners may call these. Source of the shapes: OpenAI's description of its admin API.
"""

import time
from typing import Annotated

from fastapi import APIRouter, Body, Query

from tunesmith.api.http.audit import Audit, AuditDep
from tunesmith.api.http.body import JsonRoute
from tunesmith.api.http.context import Context, ContextDep, KeyDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.paging import After, Order, id_listing
from tunesmith.api.http.rules import rule
from tunesmith.api.views.organization import admin_key_json, project_json, project_key_json
from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.store import KeyRow, ProjectRow, Role
from tunesmith.wire.lists import deleted
from tunesmith.wire.organization import AdminKeyBody, ProjectBody, ProjectKeyBody

router = APIRouter(prefix="/v1/organization", tags=["organization"], route_class=JsonRoute)
for_owners = rule("owner", deed="manages projects, keys and usage")

Limit = Annotated[int, Query(ge=0, le=100, description="Objects a page, 0 to 100.")]
Archived = Annotated[bool, Query(description="Archived projects too.")]


@router.get("/projects")
@for_owners
def list_projects(
    context: ContextDep, after: After, limit: Limit = 20, include_archived: Archived = False
) -> JSONAnswer:
    """All projects; archived ones only if asked for."""
    rows = context.store.projects.page(limit=limit, after=after, archived=include_archived)
    return JSONAnswer(id_listing([project_json(row) for row in rows.data], rows.has_more))


@router.post("/projects")
@for_owners
def create_project(body: Annotated[ProjectBody, Body()], context: ContextDep, audit: AuditDep) -> JSONAnswer:
    """A new project."""
    row = context.store.projects.create(body.name)
    audit.note("project.created", row.id, name=row.name)
    return JSONAnswer(project_json(row))


@router.get("/projects/{project_id}")
@for_owners
def retrieve_project(project_id: str, context: ContextDep) -> JSONAnswer:
    """One project."""
    return JSONAnswer(project_json(_project(context, project_id)))


@router.post("/projects/{project_id}")
@for_owners
def modify_project(
    project_id: str, body: Annotated[ProjectBody, Body()], context: ContextDep, audit: AuditDep
) -> JSONAnswer:
    """Renames a project."""
    _project(context, project_id, active=True)
    row = _found(context.store.projects.rename(project_id, body.name), project_id)
    audit.note("project.renamed", row.id, name=row.name)
    return JSONAnswer(project_json(row))


@router.post("/projects/{project_id}/archive")
@for_owners
def archive_project(project_id: str, context: ContextDep, audit: AuditDep) -> JSONAnswer:
    """Archives a project; its keys stop working."""
    row = _found(context.store.projects.archive(project_id), project_id)
    audit.note("project.archived", row.id)
    return JSONAnswer(project_json(row))


@router.get("/projects/{project_id}/api_keys")
@for_owners
def list_project_keys(project_id: str, context: ContextDep, after: After, limit: Limit = 20) -> JSONAnswer:
    """The keys of a project."""
    _project(context, project_id)
    rows = context.store.keys.page(project=project_id, limit=limit, after=after)
    return JSONAnswer(id_listing([project_key_json(row) for row in rows.data], rows.has_more))


@router.post("/projects/{project_id}/api_keys")
@for_owners
def create_project_key(
    project_id: str, body: Annotated[ProjectKeyBody, Body()], context: ContextDep, audit: AuditDep
) -> JSONAnswer:
    """A new key of a project; `value` is shown only here.

    This call is ours: OpenAI makes a project's keys in its dashboard.
    """
    _project(context, project_id, active=True)
    value, row = _create_key((context, audit), body, project_id, body.role)
    return JSONAnswer({**project_key_json(row), "value": value})


@router.get("/projects/{project_id}/api_keys/{key_id}")
@for_owners
def retrieve_project_key(project_id: str, key_id: str, context: ContextDep) -> JSONAnswer:
    """One key of a project."""
    return JSONAnswer(project_key_json(_key(context, key_id, project=project_id)))


@router.delete("/projects/{project_id}/api_keys/{key_id}")
@for_owners
def delete_project_key(project_id: str, key_id: str, context: ContextDep, key: KeyDep, audit: AuditDep) -> JSONAnswer:
    """Revokes a key of a project."""
    _revoke(context, _key(context, key_id, project=project_id), key)
    audit.note("key.revoked", key_id)
    return JSONAnswer(deleted(key_id, "organization.project.api_key.deleted"))


@router.get("/admin_api_keys")
@for_owners
def list_admin_keys(context: ContextDep, after: After, limit: Limit = 20, order: Order = "asc") -> JSONAnswer:
    """The keys of owners."""
    rows = context.store.keys.page(role="owner", limit=limit, after=after, order=order)
    return JSONAnswer(id_listing([admin_key_json(row) for row in rows.data], rows.has_more))


@router.post("/admin_api_keys")
@for_owners
def create_admin_key(body: Annotated[AdminKeyBody, Body()], context: ContextDep, audit: AuditDep) -> JSONAnswer:
    """A new key of an owner; `value` is shown only here."""
    value, row = _create_key((context, audit), body, "default", "owner")
    return JSONAnswer({**admin_key_json(row), "value": value})


@router.get("/admin_api_keys/{key_id}")
@for_owners
def retrieve_admin_key(key_id: str, context: ContextDep) -> JSONAnswer:
    """One key of an owner."""
    return JSONAnswer(admin_key_json(_key(context, key_id, role="owner")))


@router.delete("/admin_api_keys/{key_id}")
@for_owners
def delete_admin_key(key_id: str, context: ContextDep, key: KeyDep, audit: AuditDep) -> JSONAnswer:
    """Revokes a key of an owner, but not the one of this call."""
    _revoke(context, _key(context, key_id, role="owner"), key)
    audit.note("key.revoked", key_id)
    return JSONAnswer(deleted(key_id, "organization.admin_api_key.deleted"))


def _create_key(call: tuple[Context, Audit], body: AdminKeyBody, project: str, role: Role) -> tuple[str, KeyRow]:
    context, audit = call
    expires_at = None if body.expires_in_seconds is None else int(time.time()) + body.expires_in_seconds
    value, row = context.store.keys.create(body.name, project=project, role=role, expires_at=expires_at)
    audit.note("key.created", row.id, name=row.name, role=row.role, project=row.project, hint=row.hint)
    return value, row


def _project(context: Context, project_id: str, *, active: bool = False) -> ProjectRow:
    row = _found(context.store.projects.get(project_id), project_id)
    if active and row.archived_at is not None:
        raise InvalidRequest(f"The project {project_id} is archived: it takes no changes.", param="project_id")
    return row


def _found(row: ProjectRow | None, project_id: str) -> ProjectRow:
    if row is None:
        raise NotFound(f"No such project: {project_id}", param="project_id", code="project_not_found")
    return row


def _key(context: Context, key_id: str, *, project: str | None = None, role: Role | None = None) -> KeyRow:
    row = context.store.keys.get(key_id)
    if row is None or (project is not None and row.project != project) or (role is not None and row.role != role):
        raise NotFound(f"No such API key: {key_id}", param="key_id", code="key_not_found")
    return row


def _revoke(context: Context, row: KeyRow, asking: KeyRow) -> None:
    if row.id == asking.id:
        raise InvalidRequest(
            f"{row.id} is the key that this request was made with; delete it with another owner's key, or with "
            "`tunesmith keys revoke` on the server.",
            param="key_id",
        )
    context.store.keys.revoke(row.id)
