"""The reference of the library, from its docstrings; a public name without an entry is an error."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from sphinx.util import logging

from tools.ledger import labels_of_book
from tools.project import PACKAGE, ROOT, pages, parts

# The link to a statement says itself what kind it is of.
LABEL = re.compile(
    r"(?:(?:Definition|Algorithm|Theorem|Proposition|Lemma|Corollary)\s+)?``((?:eq|thm|prop|lem|cor|def|fig|sec|alg)-[a-z0-9-]+)``"
)


@functools.cache
def modules(root: Path) -> dict[str, list[str]]:
    """Public modules of the library with the public names that each defines, by their syntax.

    A method stands as ``Class.method``. Modules whose name begins with an underscore are private.
    """
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if "exercises" not in parts and not any(p.startswith("_") for p in name.split(".")):
            found[name] = _public(ast.parse(path.read_text("utf-8")))
    return found


def page(place: str, root: Path = ROOT) -> str:
    """The entries of one page of the reference.

    A package's entries stand under the name from which readers import them.

    Args:
        place: a room (``convex/mirror_maps``, ``agents``), or a part or ``ground`` for those of
            its modules whose room has no page of its own.
        root: the checkout.

    Returns:
        The page as Markdown.
    """
    text = []
    for name, defined in modules(root).items():
        handed_on = _handed_on(root, name)
        above = {item for parent in _packages(name) for item in _handed_on(root, parent)}
        left = [item for item in defined if item.split(".")[0] not in above]
        if place_of(root, name) != place or not (left or handed_on):
            continue
        text += [f"## `{name}`", "", "```{eval-rst}", f".. automodule:: {name}"]
        text += ["   :members:", "   :undoc-members:", "   :show-inheritance:"]
        # What a package only hands on from elsewhere stands on the page of the other room.
        excluded = above | _borrowed(root, name)
        if excluded:
            text.append(f"   :exclude-members: {', '.join(sorted(excluded))}")
        text += ["```", ""]
    return "\n".join(text)


def place_of(root: Path, module: str) -> str:
    """The page of the reference on which a module stands, :func:`page`.

    Args:
        root: the checkout.
        module: its dotted name.

    Returns:
        The nearest of its room, its part and ``ground`` that has a page.
    """
    names = module.split(".")[1:]
    known, listed = _listed(root)
    room = "/".join(names[:2] if names and names[0] in known else names[:1])
    if room and f"book/api/{room}" in listed:
        return room
    return names[0] if names and names[0] in known else "ground"


@functools.cache
def _listed(root: Path) -> tuple[list[str], list[str]]:
    """The parts and the pages of the book."""
    return parts(root), pages(root)


def missing(root: Path, documented: set[str]) -> list[str]:
    """Public names without an entry, under their module's name or that of a package above it."""
    return [
        f"{module}.{name}"
        for module, names in modules(root).items()
        for name in names
        if not documented & {f"{place}.{name}" for place in (module, *_packages(module))}
    ]


def check(root: Path, documented: set[str]) -> None:
    """Warn (so fail the build) about each public name without an entry."""
    for name in missing(root, documented):
        logging.getLogger(__name__).warning("the API reference has no entry for %s", name)


def keep_methods(
    app: object, what: str, name: str, member: object, skip: bool, options: Mapping[str, object]
) -> bool | None:
    """Whether a member is left out: a module's excluded names say nothing of methods.

    Args:
        app: the site.
        what: the kind of object whose member it is.
        name: the member's name.
        member: the member itself.
        skip: whether it would be left out.
        options: of the directive.

    Returns:
        False to keep a method that shares its name with an excluded function, else ``None``.
    """
    excluded = options.get("exclude-members")
    shared = isinstance(excluded, set) and name in excluded
    return False if skip and shared and what == "class" else None


class LinkLabels:
    """Turns the book's labels in docstrings into links; reads the book once.

    Args:
        root: the checkout.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @functools.cached_property
    def known(self) -> dict[str, str]:
        """Every label of the book with its kind."""
        return labels_of_book(self.root)

    def __call__(
        self, app: object, what: str, name: str, obj: object, options: object, lines: list[str]
    ) -> None:
        """Change the lines of a docstring where they stand, as autodoc asks."""
        lines[:] = [LABEL.sub(lambda found: _link(found[1], self.known), line) for line in lines]


def _link(label: str, known: dict[str, str]) -> str:
    role = {"equation": "eq", "statement": "prf:ref", "target": "ref"}.get(known.get(label, ""))
    return f":{role}:`{label}`" if role else f"``{label}``"


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


@functools.cache
def _handed_on(root: Path, module: str) -> list[str]:
    """The names in ``__all__`` of a package."""
    path = root.joinpath(*module.split("."), "__init__.py")
    for node in ast.parse(path.read_text("utf-8")).body if path.exists() else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


@functools.cache
def _borrowed(root: Path, module: str) -> frozenset[str]:
    """The names in ``__all__`` of a package that come from outside it."""
    path = root.joinpath(*module.split("."), "__init__.py")
    tree = ast.parse(path.read_text("utf-8")) if path.exists() else ast.Module([], [])
    outside = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and not node.level
        for alias in node.names
        if not f"{node.module}.".startswith(f"{module}.")
    }
    return frozenset(outside & set(_handed_on(root, module)))


def _public(tree: ast.Module) -> list[str]:
    names = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.append(node.name)
            if isinstance(node, ast.ClassDef):
                names += [
                    f"{node.name}.{item.name}"
                    for item in node.body
                    if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
                ]
    return names
