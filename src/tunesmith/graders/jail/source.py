"""Whether a source has a `grade(sample, item)`, told without running it.

It is read within the jail: a source can be made so that reading it takes all memory. What is not covered: a `grade`
that is bound by more than a `def`, such as a lambda or an import, may turn out to take other arguments.
"""

import ast
import types
import warnings
from collections.abc import Iterator

NAME = "grade"
FILE = "grader.py"  # what tracebacks call the source
WANTED = "def grade(sample: dict, item: dict) -> float"


class WrongSource(Exception):
    """A source that cannot be a grader; the message says why, and in which line."""


def check_source(source: str) -> types.CodeType:
    """The source, compiled. Raises WrongSource."""
    tree, code = _compiled(source)
    found = [bound for bound in _bindings(tree) if bound is not None]
    if not found:
        raise WrongSource(f"It has no function `grade`; write `{WANTED}` at its top level.")
    last = found[-1]
    if isinstance(last, ast.AsyncFunctionDef):
        raise WrongSource(f"Line {last.lineno}: `grade` is `async`; write `{WANTED}`.")
    if isinstance(last, ast.ClassDef):
        raise WrongSource(f"Line {last.lineno}: `grade` is a class; write `{WANTED}`.")
    if isinstance(last, ast.FunctionDef) and not last.decorator_list and not _takes_two(last.args):
        raise WrongSource(f"Line {last.lineno}: `grade` must take two arguments; write `{WANTED}`.")
    return code


def _compiled(source: str) -> tuple[ast.Module, types.CodeType]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, FILE)
            return tree, compile(tree, FILE, "exec", dont_inherit=True)
    except SyntaxError as error:
        shown = f": {error.text.strip()[:100]}" if error.text and error.text.strip() else ""
        raise WrongSource(f"Line {error.lineno or 1}: {error.msg}{shown}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise WrongSource(f"It cannot be read: {str(error)[:200] or type(error).__name__}.") from None


def _takes_two(arguments: ast.arguments) -> bool:
    """Whether `grade(sample, item)` is a valid call."""
    places = len(arguments.posonlyargs) + len(arguments.args)
    needed = places - len(arguments.defaults)
    named = any(default is None for default in arguments.kw_defaults)
    return needed <= 2 and (places >= 2 or arguments.vararg is not None) and not named


def _bindings(tree: ast.Module) -> Iterator[ast.stmt | None]:
    """The statements of the module's own scope that bind `grade`, in order."""
    waiting: list[ast.AST] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node if node.name == NAME else None
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node if any(map(_binds, node.names)) else None
        elif isinstance(node, ast.Name):
            stores = isinstance(node.ctx, ast.Store) and node.id == NAME
            yield ast.Pass(lineno=node.lineno, col_offset=0) if stores else None
        elif not isinstance(node, ast.Lambda):
            waiting += reversed(list(ast.iter_child_nodes(node)))


def _binds(alias: ast.alias) -> bool:
    return (alias.asname or alias.name) in (NAME, "*")
