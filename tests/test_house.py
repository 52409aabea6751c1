"""The rules of the house (CONTRIBUTING.md), and those of its style that a program can hold."""

import ast
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

from tools import ledger, notation, project, reference
from tools.project import (
    PACKAGE,
    PLANNED,
    ROOT,
    chapters,
    code_cells,
    imports,
    pages,
    parse_cell,
    source_of,
)

PARTS = project.parts(ROOT)
GROUND = {"checks", "data", "device", "files", "moved", "plotting", "runs"}
# Workshops serve several chapters; of the chapters they may import one alone.
WORKSHOPS = {"agents", "environments", "sequences"}
KERNEL = "convex/mirror_maps"
ROOF = {"__main__", "cli", "course"}
LIMIT = 500
CHAPTERS = [page.removeprefix("book/") for page in chapters(ROOT)]
ROOMS = project.rooms(ROOT)  # the chapters, and modules whose page is still to come
MODULES = sorted(p for p in (ROOT / PACKAGE).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]


def room_of(module: str) -> str:
    """`mdtheory.convex.mirror_maps.base` is in the room `convex/mirror_maps`."""
    parts = module.split(".")[1:]
    return "/".join(parts[:2]) if parts and parts[0] in PARTS else (parts[0] if parts else "")


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


# Rule 1: the book's order is the import order.


def allowed(room: str, other: str) -> bool:
    if other in GROUND or other in ("", room):
        return True
    if room in ROOF:
        return True
    if room in WORKSHOPS:
        return other == KERNEL or other in WORKSHOPS
    if other in WORKSHOPS:
        return room in ROOMS and room != KERNEL
    if room not in ROOMS or other not in ROOMS:
        return False
    return ROOMS.index(other) < ROOMS.index(room)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_imports_only_what_comes_before_it(name):
    path = ROOT / name
    room = room_of(dotted(path))
    for imported in imports(ast.parse(path.read_text("utf-8")), dotted(path)):
        if imported.split(".")[0] == PACKAGE:
            other = room_of(imported)
            # The last part of `from mdtheory import x` may be a name of the package itself.
            if "/" not in other and not (ROOT / PACKAGE / other).exists():
                other = other if (ROOT / PACKAGE / f"{other}.py").exists() else ""
            assert allowed(room, other), f"{name} imports {imported}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_imports_only_what_comes_before_it(chapter):
    for cell in code_cells(source_of(ROOT, f"book/{chapter}")):
        for imported in imports(parse_cell(cell), ""):
            if imported.split(".")[0] == PACKAGE:
                other = room_of(imported)
                assert other in GROUND or allowed(chapter, other), imported


def test_the_rule_about_imports_can_fail():
    assert len(CHAPTERS) < 2 or not allowed(CHAPTERS[0], CHAPTERS[1])
    assert len(CHAPTERS) < 2 or allowed(CHAPTERS[1], CHAPTERS[0])
    assert not allowed("checks", "convex/mirror_maps")
    assert not allowed("convex/mirror_maps", "course")
    assert allowed("agents", KERNEL)
    assert not allowed("agents", "rl/mdpo")
    assert not allowed(KERNEL, "agents")


def of_workshop(name: str) -> list[Path]:
    return sorted((ROOT / PACKAGE / name).glob("*.py"))


@pytest.mark.parametrize("workshop", sorted(WORKSHOPS))
def test_a_workshop_is_explained_by_a_chapter(workshop):
    for path in of_workshop(workshop):
        said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        assert re.search(r"chapters?\s'", said, re.IGNORECASE), path


@pytest.mark.parametrize("workshop", sorted(WORKSHOPS))
def test_a_workshop_has_its_tests_and_its_page_in_the_reference(workshop):
    assert list((ROOT / "tests" / workshop).glob(f"test_{workshop}*.py"))
    assert f"book/api/{workshop}" in pages(ROOT)


def test_workshops_import_each_other_in_no_circle():
    found = {
        workshop: {
            room_of(name)
            for path in of_workshop(workshop)
            for name in imports(ast.parse(path.read_text("utf-8")), dotted(path))
            if name.startswith(f"{PACKAGE}.")
        }
        & WORKSHOPS - {workshop}
        for workshop in WORKSHOPS
    }
    tuple(TopologicalSorter(found).static_order())  # raises where there is a circle


# Rule 2: the four trees have the same rooms.


def rooms_of(tree: str, ending: str) -> set[str]:
    found = set()
    for part in PARTS:
        for path in (ROOT / tree / part).glob("*"):
            if path.suffix == ending or (ending == ".py" and (path / "__init__.py").exists()):
                found.add(f"{part}/{path.stem}")
    return {room for room in found if not room.endswith("__init__")}


def test_the_trees_have_the_same_rooms():
    assert rooms_of("mdtheory", ".py") == set(ROOMS)
    assert rooms_of("exercises", ".md") == set(CHAPTERS)
    assert rooms_of("exercises", ".py") == set(CHAPTERS)


def test_a_planned_room_has_its_tests():
    for room in PLANNED:
        part, _, name = room.partition("/")
        assert list((ROOT / "tests" / part).glob(f"test_{name}*.py")), room


def test_every_chapter_has_a_page_in_the_reference():
    missing = [chapter for chapter in CHAPTERS if f"book/api/{chapter}" not in pages(ROOT)]
    assert missing == [], "add book/api/PART/NAME.md and its line in _toc.yml"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_its_tests_and_its_answers(chapter):
    part, _, name = chapter.partition("/")
    assert list((ROOT / "tests" / part).glob(f"test_{name}*.py"))
    answers = {path.stem for path in (ROOT / "tests" / "answers" / part / name).glob("*.py")}
    wanted = {"right_1", "right_2", "wrong_1", "wrong_2", "wrong_3", "wrong_4"}
    assert wanted <= answers


# Rule 4: what has outgrown a file becomes a package.


TESTS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("*.py"))]


@pytest.mark.parametrize("name", [*NAMES, *TESTS])
def test_a_file_is_short(name):
    lines = len((ROOT / name).read_text("utf-8").splitlines())
    assert lines <= LIMIT, (
        f"{name} has {lines} lines; a module becomes a package of the same name whose __init__ "
        "hands on its public names, tests are split by subject"
    )


# Style of the pages.


@pytest.mark.parametrize("page", pages(ROOT))
def test_code_on_a_page_is_under_80_columns(page):
    source = source_of(ROOT, page)
    blocks = code_cells(source)
    blocks += re.findall(r"^```(?:bash|python)\n(.*?)^```$", source, re.MULTILINE | re.DOTALL)
    assert [line for block in blocks for line in block.splitlines() if len(line) >= 80] == []


@pytest.mark.parametrize("page", pages(ROOT))
def test_no_fence_has_a_backtick_in_its_title(page):
    """CommonMark takes such a line for text, and what stands inside for part of the page."""
    assert re.findall(r"^```+\{[^}\n]*\}.*`.*$", source_of(ROOT, page), re.MULTILINE) == []


@pytest.mark.parametrize("page", pages(ROOT))
def test_proofs_are_folded_by_a_dropdown_around_them(page):
    """A proof of the class ``dropdown`` has no title to click; the page's script stops at it."""
    assert not re.search(r"\{prf:\w+\}[^\n]*\n(:.*\n)*:class: dropdown", source_of(ROOT, page))


@pytest.mark.parametrize("page", [f"book/{chapter}" for chapter in CHAPTERS])
def test_a_chapter_keeps_to_what_runs_anywhere(page):
    """No installing, no magics, no myst_nb (it is missing in Colab), no global seeds."""
    for cell in code_cells(source_of(ROOT, page)):
        assert not re.search(r"^\s*[%!]", cell, re.MULTILINE)
        assert "myst_nb" not in cell
        assert not GLOBAL_SEED.search(cell)


@pytest.mark.parametrize("page", [f"book/{chapter}" for chapter in CHAPTERS])
def test_every_figure_has_a_caption_and_a_description(page):
    for body in re.findall(r"^```\{code-cell\}.*?^```$", source_of(ROOT, page), re.M | re.S):
        if "plt.show()" in body:
            assert re.search(r"^    caption:", body, re.MULTILINE), body[:200]
            assert re.search(r"^    alt: \S", body, re.MULTILINE), body[:200]
            assert re.search(r"^    name: fig-", body, re.MULTILINE), body[:200]


# Style of the library.

GLOBAL_SEED = re.compile(
    r"(?:torch\.(?:cuda\.)?(?:manual_seed|seed)|(?:np|numpy)\.random\.seed|^\s*random\.seed)\("
)


# A student's kernel is seeded whole, in a process of its own, so that marks do not depend on luck.
OWN_PROCESS = "mdtheory/course/kernel.py"


@pytest.mark.parametrize("name", [name for name in NAMES if name != OWN_PROCESS])
def test_the_library_seeds_nothing_globally(name):
    assert not GLOBAL_SEED.search((ROOT / name).read_text("utf-8"))


def test_the_rule_about_seeds_can_fail():
    assert GLOBAL_SEED.search("torch.manual_seed(0)")
    assert not GLOBAL_SEED.search("torch.Generator().manual_seed(0)")


def public_callables() -> list[str]:
    return [f"{m}:{name}" for m, names in reference.modules(ROOT).items() for name in names]


# A second form of a function points to the first, which has said what its arguments are.
SECOND_FORM = re.compile(r"The arguments are those of :\w+:`")


@pytest.mark.parametrize("place", public_callables())
def test_what_is_public_is_documented_and_typed(place):
    module, _, name = place.partition(":")
    item = import_module(module)
    owner = None
    for part in name.split("."):
        owner, item = item, inspect.getattr_static(item, part)
    if isinstance(item, staticmethod | classmethod):
        item = item.__func__
    if isinstance(item, property):
        item = item.fget
    doc = (inspect.getdoc(item) or "") + (_inherited(owner, name) if "." in name else "")
    assert doc, f"{place} has no docstring"
    if inspect.isclass(item):
        return
    item = inspect.unwrap(item)
    if not inspect.isfunction(item):
        return
    parameters = [p for p in inspect.signature(item).parameters.values() if p.name != "self"]
    for parameter in parameters:
        assert parameter.annotation is not parameter.empty, f"{place}: {parameter.name}"
    returns = inspect.signature(item).return_annotation
    assert returns is not inspect.Signature.empty, f"{place}: no type of the result"
    tensors = "Tensor" in " ".join(str(p.annotation) for p in parameters)
    # One argument can be said in the line that says what the method does.
    if tensors and "/" in room_of(module) and not ("." in name and len(parameters) == 1):
        assert "Args:" in doc or SECOND_FORM.search(doc), f"{place}: no Args section"
        assert returns in (None, "None") or "Returns:" in doc, f"{place}: no Returns section"


def _inherited(owner: object, name: str) -> str:
    """What the classes above say: a method that overrides another may leave its rules to them."""
    method = name.split(".")[-1]
    bases = getattr(owner, "__mro__", ())[1:]
    return "".join(getattr(base.__dict__.get(method), "__doc__", None) or "" for base in bases)


def test_labels_in_docstrings_are_labels_of_the_book():
    known = ledger.labels_of_book(ROOT)
    for path in MODULES:
        text = path.read_text("utf-8")
        unknown = set(reference.LABEL.findall(text)) - set(known)
        assert not unknown, f"{path.relative_to(ROOT)}: {sorted(unknown)}"


# The one table of symbols.


@pytest.mark.parametrize("entry", notation.entries(ROOT), ids=lambda entry: entry.symbol)
def test_notation_agrees_with_code_and_chapters(entry):
    if entry.code:
        words = {word for names in reference.modules(ROOT).values() for n in names
                 for word in n.split(".")}  # fmt: skip
        assert entry.code in words | _arguments(), f"{entry.code} is no name of mdtheory"
    page = source_of(ROOT, f"book/{entry.chapter}")
    assert _plain(entry.symbol) in _plain(page), f"{entry.symbol} is not in {entry.chapter}"
    earlier = CHAPTERS[: CHAPTERS.index(entry.chapter)]
    for chapter in earlier:
        math = " ".join(re.findall(r"\$+([^$]+)\$+", source_of(ROOT, f"book/{chapter}")))
        assert _plain(entry.symbol) not in _plain(math), f"{entry.symbol} is used in {chapter}"


def _plain(text: str) -> str:
    return re.sub(r"\s|\\[,;!]|[{}]", "", text)


def _arguments() -> set[str]:
    """Names of arguments and attributes anywhere in the library."""
    found = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        found.add(target.id)
                    elif isinstance(target, ast.Attribute):
                        found.add(target.attr)
    return found


# The programs that hold style and types.


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["codespell_lib"],
        ["mypy"],
    ],
    ids=["ruff", "format", "codespell", "mypy"],
)
def test_style_and_types(command):
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
