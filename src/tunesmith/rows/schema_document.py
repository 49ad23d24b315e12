"""A JSON schema with its references.

Not covered: references to other documents, which must not make this machine fetch anything.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote, urldefrag, urljoin

from tunesmith.jsonvalue import JsonObject, JsonValue

NEWEST = 2020
_DRAFT = re.compile(r"draft(?:-0|/)(\d{4}|\d)")
_DATA = {"const", "default", "enum", "example", "examples"}  # what looks like a schema in there is a value
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

Path = tuple[str, ...]


class SchemaDocument:
    """A schema whose references can be followed.

    Its parts are told apart by identity, so it must come from a parser or be built without shared parts.
    """

    def __init__(self, root: JsonObject) -> None:
        self.root = root
        self.views = 0  # how often a part was looked at; `serve.schema.view` counts
        self.draft = _draft(root)
        self._bases: dict[int, str] = {}
        self._paths: dict[int, Path] = {}
        self._resources: dict[str, JsonObject] = {"": root}
        self._anchors: dict[tuple[str, str], JsonObject] = {}
        self._dynamic: dict[str, int] = {}  # how many parts bear this dynamic anchor
        self._referring: list[JsonObject] = []
        self._adopted: dict[int, JsonObject] = {}  # kept alive: their identities must not be used again
        self._index()

    def path(self, node: JsonObject) -> Path:
        """The keys that lead from the root to `node`."""
        return self._paths.get(id(node), ())

    def draft_of(self, node: JsonObject) -> int:
        """The draft by which `node` is read: 4, 6, 7, 2019 or 2020."""
        return NEWEST if id(node) in self._adopted else self.draft

    def referring(self) -> list[JsonObject]:
        """The parts with a reference."""
        return self._referring

    def knows(self, node: JsonObject) -> bool:
        """Whether `node` is a part of this document, or adopted."""
        return id(node) in self._bases

    def adopt(self, node: JsonObject, like: JsonObject) -> JsonObject:
        """The new part `node`, of the newest draft, in the place of `like`."""
        self._bases[id(node)], self._paths[id(node)] = self._bases.get(id(like), ""), self.path(like)
        self._adopted[id(node)] = node
        return node

    def targets(self, node: JsonObject) -> Iterator[tuple[str, JsonValue]]:
        """The keyword and the schema of each reference of `node`.

        Raises LookupError, with the end of a sentence, for one that leads nowhere.
        """
        for keyword in REFERENCES:
            if keyword in node:
                yield keyword, self.resolve(node, keyword)

    def resolve(self, node: JsonObject, keyword: str) -> JsonValue:
        """What the reference under `keyword` leads to. Raises LookupError."""
        reference = node[keyword]
        if not isinstance(reference, str):
            raise LookupError(f"'{keyword}' is not a text")
        base = self._bases.get(id(node), "")
        if keyword != "$ref":
            self._check_static(keyword, reference)
        address, fragment = urldefrag(base + reference if reference.startswith("#") else urljoin(base, reference))
        found = self._found(address, unquote(fragment))
        if not isinstance(found, dict | bool):
            raise LookupError(f"the '{keyword}' '{reference[:200]}' does not point into this schema")
        return found

    def _found(self, address: str, fragment: str) -> JsonValue:
        resource = self._resources.get(address)
        if resource is None or not fragment:
            return resource
        return _pointed(resource, fragment) if fragment.startswith("/") else self._anchors.get((address, fragment))

    def _check_static(self, keyword: str, reference: str) -> None:
        name = reference.rpartition("#")[2] if keyword == "$dynamicRef" else ""
        if self._dynamic.get(name, 0) > 1:
            raise LookupError(f"'{keyword}' is supported only where one part can be meant")

    def _index(self) -> None:
        pending: list[tuple[JsonValue, Path, str]] = [(self.root, (), "")]
        while pending:
            value, path, base = pending.pop()
            if isinstance(value, dict):
                base = self._entered(value, path, base)
                pending += [
                    (child, (*path, key), base)
                    for key, child in value.items()
                    if key not in _DATA or (path and path[-1] in ("properties", "$defs", "definitions"))
                ]
            elif isinstance(value, list):
                pending += [(child, (*path[:-1], f"{path[-1]}[{n}]"), base) for n, child in enumerate(value)]

    def _entered(self, node: JsonObject, path: Path, base: str) -> str:
        """The base address inside of `node`, whose names are noted."""
        name = node.get("$id" if "$id" in node else "id")
        if isinstance(name, str) and not ("$ref" in node and self.draft <= 7):
            address, fragment = urldefrag(urljoin(base, name))
            if address != base:
                base = address
                self._resources.setdefault(base, node)
            if fragment:
                self._anchors.setdefault((base, fragment), node)
        self._bases[id(node)], self._paths[id(node)] = base, path
        if any(isinstance(node.get(keyword), str) for keyword in REFERENCES):
            self._referring.append(node)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(anchor := node.get(keyword), str):
                self._anchors.setdefault((base, anchor), node)
        if isinstance(anchor := node.get("$dynamicAnchor"), str):
            self._dynamic[anchor] = self._dynamic.get(anchor, 0) + 1
        if node.get("$recursiveAnchor") is True:
            self._dynamic[""] = self._dynamic.get("", 0) + 1
        return base


def _draft(root: JsonObject) -> int:
    named = root.get("$schema")
    match = _DRAFT.search(named) if isinstance(named, str) else None
    return max(4, int(match[1])) if match else NEWEST


def _pointed(resource: JsonValue, pointer: str) -> JsonValue:
    value = resource
    for escaped in pointer[1:].split("/") if pointer != "/" else ():
        key = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value
