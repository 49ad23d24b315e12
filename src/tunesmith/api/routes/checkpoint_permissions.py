"""Permissions: which other projects may use a tuned model or a checkpoint.

A project with a permission sees the model, asks it and trains it further; only the model's own project deletes it
or passes it on. Only owners grant and revoke, since a permission lets one project into another.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query

from tunesmith.api.http.audit import AuditDep
from tunesmith.api.http.body import JsonRoute
from tunesmith.api.http.context import ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.paging import After, Limit, id_listing
from tunesmith.api.http.rules import rule
from tunesmith.errors import NotFound
from tunesmith.store import PermissionRow
from tunesmith.wire.lists import deleted
from tunesmith.wire.models import GrantPermissions, Permission

router = APIRouter(prefix="/v1/fine_tuning/checkpoints", tags=["fine-tuning"], route_class=JsonRoute)
sharing = rule("owner", deed="shares models with other projects")


@router.get("/{name:path}/permissions")
@rule("read-only")
def list_permissions(
    name: str,
    context: ContextDep,
    after: After,
    project_id: Annotated[str | None, Query(description="Only the permission of this project.")] = None,
    limit: Limit = 10,
    order: Annotated[
        Literal["ascending", "descending"], Query(description="ascending (oldest first) or descending.")
    ] = "descending",
) -> JSONAnswer:
    """The projects that may use a model."""
    rows = context.store.permissions.page(
        name, project_id=project_id, limit=limit, after=after, order="asc" if order == "ascending" else "desc"
    )
    return JSONAnswer(id_listing([permission_json(row) for row in rows.data], rows.has_more))


@router.post("/{name:path}/permissions")
@sharing
def grant_permissions(
    name: str, request: Annotated[GrantPermissions, Body()], context: ContextDep, audit: AuditDep
) -> JSONAnswer:
    """Lets projects use a model; those that may already are listed again."""
    rows = context.store.permissions.grant(name, request.project_ids)
    for row in rows:
        audit.note("permission.granted", row.id, model=name, project=row.project_id)
    return JSONAnswer(id_listing([permission_json(row) for row in rows], False))


@router.delete("/{name:path}/permissions/{permission_id}")
@sharing
def revoke_permission(name: str, permission_id: str, context: ContextDep, audit: AuditDep) -> JSONAnswer:
    """Takes a permission back."""
    if not context.store.permissions.revoke(name, permission_id):
        raise NotFound(f"No such permission of '{name}': {permission_id}", param="permission_id")
    audit.note("permission.revoked", permission_id, model=name)
    return JSONAnswer(deleted(permission_id, "checkpoint.permission"))


def permission_json(row: PermissionRow) -> Permission:
    """The permission as the wire shows it."""
    return {
        "object": "checkpoint.permission",
        "id": row.id,
        "created_at": row.created_at,
        "project_id": row.project_id,
    }
