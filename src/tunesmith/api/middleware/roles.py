"""What a key may do, by its role. Each route declares the one it takes.

    owner       everything, in every project of the organisation (the header OpenAI-Project chooses)
    member      everything in its project but deleting models, sharing them and /v1/organization
    read-only   look, ask models and have texts judged; nothing is kept of it (no `store: true`)

Not covered: which objects a project has. Other projects' are not there at all (`store.scope`).
"""

from tunesmith.api.http.rules import Rule
from tunesmith.errors import PermissionDenied
from tunesmith.store import KeyRow, Role

RANKS: dict[Role, int] = {"read-only": 0, "member": 1, "owner": 2}


def demand_allowed(key: KeyRow, rule: Rule, method: str, path: str) -> None:
    """Raises PermissionDenied, which names the key, its role and the role it takes."""
    if RANKS[key.role] >= RANKS[rule.role]:
        return
    raise PermissionDenied(
        f"You have insufficient permissions for this operation: the key '{key.name}' (…{key.hint}) has the role "
        f"{key.role}, and only one with the role {rule.role} {rule.deed or f'may {method} {path}'}. Make one with "
        f"`tunesmith keys create NAME --role {rule.role}`.",
        code="insufficient_permissions",
    )
