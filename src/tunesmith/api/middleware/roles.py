"""What a key may do, by its role. One place for all routes: middleware asks it before a body is read.

    owner       everything, in every project of the organisation (the header OpenAI-Project chooses)
    member      everything in its project but deleting models, sharing them and /v1/organization
    read-only   look, ask models and have texts judged: GET, and POST to the paths of `ASKING`

Not covered: which objects a project has. Other projects' are not there at all (`store.scope`).
"""

import re

from tunesmith.errors import PermissionDenied
from tunesmith.store import KeyRow

ORGANIZATION = "/v1/organization"
MODELS = "/v1/models/"
SHARING = re.compile(r"/v1/fine_tuning/checkpoints/.+/permissions(/[^/]*)?")
ASKING = re.compile(
    r"/v1/(engines/.+/)?(chat/)?completions|/v1/moderations|/v1/fine_tuning/alpha/graders/(run|validate)"
)


def demand_allowed(key: KeyRow, method: str, path: str) -> None:
    """Raises PermissionDenied, which names the key, its role and the role it takes."""
    if key.role == "owner":
        return
    if path == ORGANIZATION or path.startswith(f"{ORGANIZATION}/"):
        raise _denied(key, "owner", "manages projects, keys and usage")
    if key.role == "member" and method == "DELETE" and path.startswith(MODELS):
        raise _denied(key, "owner", "deletes models")
    if method not in ("GET", "HEAD") and SHARING.fullmatch(path):
        raise _denied(key, "owner", "shares models with other projects")
    if key.role == "read-only" and method not in ("GET", "HEAD") and not ASKING.fullmatch(path):
        raise _denied(key, "member", f"may {method} {path}")


def _denied(key: KeyRow, role: str, deed: str) -> PermissionDenied:
    return PermissionDenied(
        f"You have insufficient permissions for this operation: the key '{key.name}' (…{key.hint}) has the role "
        f"{key.role}, and only one with the role {role} {deed}. Make one with "
        f"`tunesmith keys create NAME --role {role}`.",
        code="insufficient_permissions",
    )
