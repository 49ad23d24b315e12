"""Projects and keys as the wire shows them.

At OpenAI a person or a service account owns a key; here a key is its own account, so `owner` shows the key as a service
account, or as the user of an admin key.
"""

from tunesmith.store import KeyRow, ProjectRow
from tunesmith.wire.lists import Anything
from tunesmith.wire.organization import Key, KeyKind, Project


def project_json(row: ProjectRow) -> Project:
    """A project of the organization."""
    return {
        "id": row.id,
        "object": "organization.project",
        "name": row.name,
        "created_at": row.created_at,
        "archived_at": row.archived_at,
        "status": "active" if row.archived_at is None else "archived",
    }


def project_key_json(row: KeyRow) -> Key:
    """A key of a project."""
    account: Anything = {"id": row.id, "name": row.name, "created_at": row.created_at, "role": row.role}
    key = _key_json(row, "organization.project.api_key", {"type": "service_account", "service_account": account})
    key["owner_project_access"] = "active"
    return key


def admin_key_json(row: KeyRow) -> Key:
    """A key of an owner."""
    owner: Anything = {"type": "user", "object": "organization.user", "id": row.id, "name": row.name}
    return _key_json(row, "organization.admin_api_key", {**owner, "created_at": row.created_at, "role": "owner"})


def _key_json(row: KeyRow, kind: KeyKind, owner: Anything) -> Key:
    return {
        "object": kind,
        "id": row.id,
        "name": row.name,
        "redacted_value": f"sk-tunesmith-***{row.hint}",
        "created_at": row.created_at,
        "last_used_at": row.last_used_at,
        "expires_at": row.expires_at,
        "owner": owner,
    }
