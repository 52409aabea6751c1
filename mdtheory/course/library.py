"""The library as students' processes see it: without solutions, and without the answers.

A function that is itself the answer to a problem is replaced in the source, so that it is in no
file and in no memory that a submission can reach, under whatever name it is imported. So are the
public constants of a class that is an answer.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import shutil
import sys
from functools import cache
from pathlib import Path

import mdtheory
from mdtheory.course.kernel import functions_of
from mdtheory.course.marking import Grader, GraderError


def library_without_answers(grader: Grader, folder: Path) -> Path:
    """Copy the package, with the functions that the grader forbids replaced by refusals.

    Args:
        grader: the grader of the assignment.
        folder: an empty folder.

    Returns:
        The folder, to be put on the path.

    Raises:
        GraderError: a forbidden function cannot be replaced.
    """
    package = Path(mdtheory.__file__).resolve().parent
    target = folder / "mdtheory"
    shutil.copytree(
        package, target, ignore=shutil.ignore_patterns("__pycache__", "exercises", "*.pyc")
    )
    answers: dict[Path, dict[int, str]] = {}
    classes: dict[Path, set[str]] = {}
    for name in {name for names in grader.forbidden.values() for name in names}:
        replaced = 0
        functions = functions_of(name)
        for function in functions:
            inner = inspect.unwrap(function)
            path = Path(inner.__code__.co_filename).resolve()
            if not path.is_relative_to(package):
                continue  # generated, as some methods of named tuples are: nobody's answer
            if len(functions) > 1 and function.__name__ in _for_constructors(path):
                continue
            words = f"called {inner.__module__}.{inner.__qualname__}, which is the answer itself"
            lines = answers.setdefault(path.relative_to(package), {})
            lines[inner.__code__.co_firstlineno] = words
            replaced += 1
        found = pkgutil.resolve_name(name)
        if isinstance(found, type):
            file = Path(str(sys.modules[found.__module__].__file__)).resolve()
            if file.is_relative_to(package):
                classes.setdefault(file.relative_to(package), set()).add(found.__qualname__)
        if not replaced:
            raise GraderError(f"{grader.name}: {name}: nothing of it is written in {package}")
    for relative, lines in answers.items():
        source = ast.parse((target / relative).read_text("utf-8"))
        refuser = _Refuser(lines | _only_for(source, lines), classes.get(relative, set()))
        tree = refuser.visit(source)
        if refuser.lines:
            missed = ", ".join(refuser.lines.values())
            raise GraderError(f"{grader.name}: {relative}: cannot replace: {missed}")
        text = ast.unparse(ast.fix_missing_locations(tree))
        (target / relative).write_text(text, "utf-8")
    return folder


def _only_for(module: ast.Module, lines: dict[int, str]) -> dict[int, str]:
    """The module's private functions that only refused functions use, with the words for each."""
    private = {
        step.name: step
        for step in module.body
        if isinstance(step, ast.FunctionDef) and step.name.startswith("_")
    }
    found: dict[int, str] = {}
    grew = True
    while grew:
        elsewhere, inside = set[str](), dict[str, str]()
        _names_outside(module, lines | found, elsewhere, inside, "")
        more = {
            _first_line(function): inside[name]
            for name, function in private.items()
            if name in inside and name not in elsewhere
        }
        grew = bool(more.keys() - (lines | found).keys())
        found |= {line: words for line, words in more.items() if line not in lines}
    return found


def _names_outside(
    node: ast.AST, lines: dict[int, str], elsewhere: set[str], inside: dict[str, str], words: str
) -> None:
    """Names used by refused functions, with their words, and names that others use."""
    for child in ast.iter_child_nodes(node):
        own = words
        if isinstance(child, ast.FunctionDef):
            own = words or lines.get(_first_line(child), "")
        if isinstance(child, (ast.Name, ast.Attribute)):
            name = child.id if isinstance(child, ast.Name) else child.attr
            if own:
                inside.setdefault(name, own)
            else:
                elsewhere.add(name)
        _names_outside(child, lines, elsewhere, inside, own)


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


# Read through the class or through an object, it raises.
REFUSED_CONSTANT = """
class _Refused:
    def __get__(self, *_):
        from mdtheory.course.kernel import ForbiddenError
        raise ForbiddenError({words!r})
{name} = _Refused()
"""


@cache
def _for_constructors(path: Path) -> frozenset[str]:
    """Constructors, and the private functions of a file that they call.

    Objects are made while modules are imported, so these must work; methods are what answers.
    """
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    kept = {"__init__", "__post_init__"}
    grew = True
    while grew:
        called = {
            call.func.id if isinstance(call.func, ast.Name) else call.func.attr
            for function in functions
            if function.name in kept
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and isinstance(call.func, (ast.Name, ast.Attribute))
        }
        more = {f.name for f in functions if f.name.startswith("_") and f.name in called} - kept
        kept |= more
        grew = bool(more)
    return frozenset(kept)


class _Refuser(ast.NodeTransformer):
    """Replaces functions that begin in given lines, and the constants of given classes."""

    def __init__(self, lines: dict[int, str], classes: set[str]) -> None:
        self.lines, self.classes = dict(lines), classes

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        if node.name not in self.classes:
            return node
        body: list[ast.stmt] = []
        for step in node.body:
            names = [
                target.id
                for target in (step.targets if isinstance(step, ast.Assign) else [])
                if isinstance(target, ast.Name) and not target.id.startswith("_")
            ]
            body += [
                part
                for name in names
                for part in ast.parse(
                    REFUSED_CONSTANT.format(
                        name=name,
                        words=f"read {node.name}.{name}, which is the answer itself",
                    )
                ).body
            ]
            body += [] if names else [step]
        node.body = body
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        words = self.lines.pop(_first_line(node), None)
        if words is None:
            return self.generic_visit(node)
        # It takes whatever comes: a wrong call is refused like a right one.
        node.args = ast.arguments([], [], ast.arg("_"), [], [], ast.arg("__"), [])
        node.body = list(
            ast.parse(
                "from mdtheory.course.kernel import ForbiddenError\n"
                f"raise ForbiddenError({words!r})"
            ).body
        )
        node.returns = None
        return node
