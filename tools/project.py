"""The book's pages and chapters, and what each chapter depends on."""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "mdtheory"
# Rooms of the library that open before their page: the room, and the chapter before which it will
# stand (with several before one chapter, in this order), or nothing if it will be the last. The
# house lets such a module have no page, no assignment and no answers, and imports go by the place
# that it will have.
PLANNED: dict[str, str] = {"nlhf/language_models": ""}
CODE_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
CELL_OPTIONS = re.compile(r"\A(?:---\n.*?\n---\n|(?::[^\n]*\n)+)", re.DOTALL)
# A cell that shows code or documentation; for its chapter also the words of a module matter.
SHOWS_SOURCE = re.compile(r"\binspect\b|__doc__|\bhelp\(")
# Read by the kernel of every chapter, so they decide what a page shows.
DATA_FOLDERS = ("book/results", f"{PACKAGE}/data")


def pages(root: Path) -> list[str]:
    """Every page of ``_toc.yml`` in reading order, as paths without their ending."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    return list(_files(toc))


def chapters(root: Path) -> list[str]:
    """The pages with cells, such as ``book/convex/mirror_maps``."""
    return [page for page in pages(root) if code_cells(source_of(root, page))]


def parts(root: Path) -> list[str]:
    """The parts of the book, in order: the folders of its chapters, such as ``convex``."""
    folders = [page.split("/")[1] for page in pages(root) if page.count("/") == 2]
    return list(dict.fromkeys(folder for folder in folders if folder != "api"))


def rooms(root: Path, planned: dict[str, str] | None = None) -> list[str]:
    """The rooms of the library in the order in which they may import each other.

    Args:
        root: the checkout.
        planned: rooms without a page yet, ``PLANNED`` by default.

    Returns:
        Such as ``convex/mirror_maps``, planned ones before the chapter that they name, or last.

    Raises:
        ValueError: a planned room has a page by now, or stands before no chapter.
    """
    order = [page.removeprefix("book/") for page in chapters(root)]
    for room, before in (PLANNED if planned is None else planned).items():
        if room in order:
            raise ValueError(f"PLANNED: {room} has a page now, remove it from the list")
        if before and before not in order:
            raise ValueError(f"PLANNED: {room} is to stand before {before}, which is no chapter")
        order.insert(order.index(before) if before else len(order), room)
    return order


def source_of(root: Path, page: str) -> str:
    """The text of a page."""
    return (root / f"{page}.md").read_text("utf-8")


def code_cells(source: str) -> list[str]:
    """The code of each cell of a page, without the cell's options."""
    return [CELL_OPTIONS.sub("", body) for body in CODE_CELL.findall(source)]


def fingerprint(root: Path, page: str) -> str:
    """Hash of all that decides a chapter's outputs.

    That is its header and its cells, the code of the modules of the library that it imports
    (transitively), the pinned versions, the Python version, and the data files that its cells or
    one of those modules mention by name. Prose, comments and documentation decide nothing, but
    for a chapter that shows them: there the words in the modules of the book's parts count.
    """
    source = source_of(root, page)
    cells = code_cells(source)
    header = HEADER.match(source)
    texts = [header[0] if header else "", *CODE_CELL.findall(source)]
    shown = any(SHOWS_SOURCE.search(cell) for cell in cells)
    for path in imported_modules(root, cells):
        place = path.relative_to(root)
        whole = shown and place.parts[1] in parts(root)
        texts += [place.as_posix(), path.read_text("utf-8") if whole else _code_of(path)]
    inputs = _mentioned_data(root, "\n".join(texts))
    if (root / "constraints.txt").exists():
        inputs.append(root / "constraints.txt")
    return hash_files(root, inputs, extra="\0".join([platform.python_version(), *texts]))


def without_words(source: str) -> str:
    """The code of a module without its comments and docstrings, in one style.

    Args:
        source: the module's text.

    Returns:
        Code with the same effect, except on what reads documentation.
    """
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def hash_files(root: Path, paths: Iterable[Path], *, extra: str = "") -> str:
    """Hash of the names and contents of files."""
    digest = hashlib.sha256(extra.encode())
    for path in sorted(set(paths)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def imported_modules(root: Path, cells: Iterable[str]) -> list[Path]:
    """Files of the library that the cells import, and all that those import in turn."""
    seen: set[Path] = set()
    waiting = [name for cell in cells for name in imports(parse_cell(cell), "")]
    while waiting:
        for path in _module_files(root, waiting.pop()):
            if path not in seen:
                seen.add(path)
                module = ".".join(path.relative_to(root).with_suffix("").parts)
                waiting += imports(ast.parse(path.read_text("utf-8")), module)
    return sorted(seen)


def parse_cell(cell: str) -> ast.Module:
    """The syntax tree of a cell, its magics left out."""
    lines = ["" if re.match(r"\s*[%!]", line) else line for line in cell.splitlines()]
    return ast.parse("\n".join(lines))


def imports(tree: ast.AST, module: str) -> list[str]:
    """Dotted names that a module imports, wherever in it the import stands.

    Args:
        tree: its syntax tree.
        module: its own dotted name, ``pkg.__init__`` for a package, for relative imports.

    Returns:
        Names such as ``mdtheory.convex.mirror_maps.dual_step``; the last part may be no module.
    """
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{prefix}.{alias.name}" for alias in node.names]
    return names


def read_json(path: Path) -> dict[str, object]:
    """A stamp, or nothing where there is none or a torn one."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: object) -> None:
    """Write a stamp: all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1), "utf-8")
    os.replace(temporary, path)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let one command at a time execute and build; the lock goes with its process."""
    (root / ".cache").mkdir(exist_ok=True)
    with (root / ".cache" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _files(node: object) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _files(item)
    elif isinstance(node, dict):
        for key in ("root", "file"):
            if key in node:
                yield str(node[key])
        for key in ("parts", "chapters", "sections"):
            yield from _files(node.get(key, []))


def _code_of(path: Path) -> str:
    return _without_words(path.read_text("utf-8"))


_without_words = functools.lru_cache(maxsize=1024)(without_words)


def _module_files(root: Path, name: str) -> list[Path]:
    """The file of a dotted name of the library, and the packages above it."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return []
    found = []
    for end in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:end])
        found += [p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()]
    return found


def _mentioned_data(root: Path, text: str) -> list[Path]:
    files = [p for folder in DATA_FOLDERS for p in (root / folder).rglob("*") if p.is_file()]
    return [
        path
        for path in files
        if "__pycache__" not in path.parts
        and re.search(rf"(?<![A-Za-z0-9]){re.escape(path.name.split('.')[0])}(?![A-Za-z0-9])", text)
    ]
