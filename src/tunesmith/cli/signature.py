"""Commands whose options are the fields of a dataclass."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, TypeVar, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

O = TypeVar("O", bound="DataclassInstance")  # noqa: E741 - the options of a command


def takes(options: type[O]) -> Callable[[Callable[[O], None]], Callable[..., None]]:
    """Decorates a command that takes an instance of the dataclass `options`.

    Each field is an option or argument of the command: its type is annotated with `typer.Option` or `typer.Argument`,
    and it is required unless it has a default. The fields of a field that is itself a dataclass are options too.
    So a command has one parameter, however many options Typer reads from the signature made here.
    """

    def decorate(command: Callable[[O], None]) -> Callable[..., None]:
        def run(**values: object) -> None:
            command(_filled(options, values))

        parameters = list(_parameters(options))
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        return run

    return decorate


def _parameters(options: "type[DataclassInstance]") -> Iterator[inspect.Parameter]:
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        hint = hints[field.name]
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _parameters(hint)
        else:
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _filled(options: type[O], values: dict[str, object]) -> O:
    hints = get_type_hints(options)
    nested = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    own = {field.name: values[field.name] for field in fields(options) if field.name not in nested}
    return options(**own, **{name: _filled(hint, values) for name, hint in nested.items()})
