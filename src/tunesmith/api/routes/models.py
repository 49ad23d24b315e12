"""/v1/models: bases, their aliases, tuned models and kept checkpoints.

The last two can be deleted and given a name to show; aliases that were set here can be deleted.
"""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, HTTPException

from tunesmith.api.http.audit import AuditDep
from tunesmith.api.http.body import JsonRoute
from tunesmith.api.http.context import Context, ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.rules import rule
from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.export.cards.display_name import checked_display_name, display_name
from tunesmith.models.registry import alias_table, list_bases, new_alias
from tunesmith.store import ModelRow
from tunesmith.wire.lists import deleted
from tunesmith.wire.models import AliasBody, DeletedModel, DisplayNameBody, Model, ModelDetails, Models

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=JsonRoute)

BASE_CREATED = 1_730_419_200  # 2024-11-01, the day of the shipped base; a base of the user's own has no date here


@router.get("")
@rule("read-only")
def list_models(context: ContextDep) -> JSONAnswer:
    """Tuned models first, then bases and aliases."""
    tuned = [_model(row.name, row.created_at, row.owned_by) for row in context.store.models.all()]
    found: Models = {"object": "list", "data": [*tuned, *_fixed(context).values()]}
    return JSONAnswer(found)


@router.get("/{name:path}")
@rule("read-only")
def retrieve_model(name: str, context: ContextDep) -> JSONAnswer:
    """One model, with the system message of its training file.

    Raises NotFound.
    """
    _require_name(name)
    row = context.store.models.get(name)
    if row is not None:
        return JSONAnswer(_detailed(row, context))
    fixed = _fixed(context).get(name)
    if fixed is None:
        raise _unknown(name)
    return JSONAnswer(fixed)


@router.post("/{name:path}/display_name")
@rule("member", deed="gives models names")
def name_model(name: str, body: Annotated[DisplayNameBody, Body()], context: ContextDep, audit: AuditDep) -> JSONAnswer:
    """Gives a tuned model or a checkpoint of this project the name that pages show."""
    row = context.store.models.get(name)
    if row is None or row.project != context.project:
        raise _unknown(name)
    context.store.models.fetch(row)  # one without weights has no page to show it
    display = checked_display_name(body.display_name)
    context.store.models.rename(name, display)
    audit.note("model.named", name, display=display or None)
    return JSONAnswer(_detailed(replace(row, display=display), context))


@router.post("/{name:path}")
@rule("owner", deed="sets aliases")
def set_alias(name: str, body: Annotated[AliasBody, Body()], context: ContextDep, audit: AuditDep) -> JSONAnswer:
    """Lets `name` stand for a base.

    Every server of this database knows it at once. Raises InvalidRequest.
    """
    _require_name(name)
    base = new_alias(name, body.base, context.settings, context.store.aliases.all())
    context.store.aliases.set(name, base.name)
    audit.note("alias.set", name, base=base.name)
    return JSONAnswer(_model(name, BASE_CREATED, f"alias-of:{base.name}"))


@router.delete("/{name:path}")
@rule("owner", deed="deletes models")
def delete_model(name: str, context: ContextDep, audit: AuditDep) -> JSONAnswer:
    """Deletes a tuned model, a checkpoint, or an alias that was set.

    The answer names the imported models that its weights stay for. Raises InvalidRequest for a base.
    """
    _require_name(name)
    if context.store.aliases.remove(name):
        audit.note("alias.removed", name)
        return JSONAnswer(deleted(name, "model"))
    if name in _fixed(context):
        raise _undeletable(name, context)
    if not context.store.models.delete(name):
        raise _unknown(name)
    answer = DeletedModel(id=name, object="model", deleted=True)
    if others := context.store.models.stand_ins(name):
        answer["tunesmith"] = {"still_answers_as": others}
    return JSONAnswer(answer)


def _detailed(row: ModelRow, context: Context) -> Model:
    model = _model(row.name, row.created_at, row.owned_by)
    details: ModelDetails = {}
    if message := context.store.models.system_message(row.name):
        details["system_message"] = message
    if display := display_name(row):
        details["display_name"] = display
    if details:
        model["tunesmith"] = details
    return model


def _fixed(context: Context) -> dict[str, Model]:
    """Bases and aliases by name. An alias names its base in `owned_by`, so that it is not taken for OpenAI's model."""
    bases = {base.name: _model(base.name, BASE_CREATED, "tunesmith") for base in list_bases(context.settings)}
    aliases = {
        alias: _model(alias, BASE_CREATED, f"alias-of:{base.name}")
        for alias, base in alias_table(context.settings, context.store.aliases.all()).items()
        if alias not in bases
    }
    return bases | aliases


def _model(name: str, created: int, owned_by: str) -> Model:
    return {"id": name, "object": "model", "created": created, "owned_by": owned_by}


def _require_name(name: str) -> None:
    """A path that ends with the slash is no path of ours."""
    if not name:
        raise HTTPException(404)


def _undeletable(name: str, context: Context) -> InvalidRequest:
    own = "only models of your own (ft:…) and aliases that were set here can"
    if any(base.name == name for base in list_bases(context.settings)):
        text = f"The model '{name}' is a base model, and cannot be deleted; {own}."
    else:
        text = (
            f"The model '{name}' is an alias of the settings or a built-in one, and cannot be deleted; {own}. To take "
            f'it away, write "{name}" = "" under [aliases] in tunesmith.toml and start the servers again.'
        )
    return InvalidRequest(text, param="model")


def _unknown(name: str) -> NotFound:
    return NotFound(f"The model '{name}' does not exist", param="model", code="model_not_found")
