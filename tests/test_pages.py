"""The generated pages: the reference misses no public name, the exercises page no problem."""

import logging
import re

import pytest

from tools import assignments, notation, reference
from tools.project import ROOT

MODULE = '''"""A module."""

LIMIT = 3

def area(x): ...

def _hidden(x): ...

class Shape:
    def draw(self): ...
    def _draw(self): ...
'''


@pytest.fixture
def small_library(tmp_path):
    package = tmp_path / "mdtheory" / "convex" / "shapes"
    package.mkdir(parents=True)
    for folder in (package, *package.parents):
        if folder == tmp_path:
            break
        (folder / "__init__.py").touch()
    (package / "plane.py").write_text(MODULE)
    (package / "_private.py").write_text(MODULE)
    (package / "__init__.py").write_text('__all__ = ["area"]\n')
    return tmp_path


def test_every_public_name_needs_an_entry(small_library):
    place = "mdtheory.convex.shapes"
    assert reference.missing(small_library, set()) == [
        f"{place}.plane.area",
        f"{place}.plane.Shape",
        f"{place}.plane.Shape.draw",
    ]
    # An entry under the name from which readers import it counts.
    documented = {f"{place}.area", f"{place}.plane.Shape", f"{place}.plane.Shape.draw"}
    assert reference.missing(small_library, documented) == []


def test_a_missing_entry_is_a_warning_so_stops_the_build(small_library, monkeypatch):
    messages = []
    logger = logging.getLogger("reference under test")
    monkeypatch.setattr(reference.logging, "getLogger", lambda name: logger)
    monkeypatch.setattr(logger, "warning", lambda text, *args: messages.append(text % args))
    reference.check(small_library, {"mdtheory.convex.shapes.area"})
    assert len(messages) == 2
    assert "no entry for mdtheory.convex.shapes.plane.Shape" in messages[0]


def test_labels_in_docstrings_become_links_and_the_book_is_read_once(monkeypatch):
    known = {"eq-one": "equation", "thm-one": "statement", "fig-one": "target"}
    read = []
    monkeypatch.setattr(reference, "labels_of_book", lambda root: read.append(root) or known)
    link = reference.LinkLabels(ROOT)
    for _ in range(2):
        lines = ["Equation ``eq-one``, ``thm-one``, ``fig-one``, ``eq-none`` and ``code``."]
        link(None, "function", "f", None, None, lines)
        assert lines == [
            "Equation :eq:`eq-one`, :prf:ref:`thm-one`, :ref:`fig-one`, ``eq-none`` and ``code``."
        ]
    assert read == [ROOT]


def test_modules_stand_on_the_page_of_their_room_or_of_their_part(small_library):
    (small_library / "mdtheory" / "ground.py").write_text(MODULE)
    (small_library / "mdtheory" / "convex" / "later.py").write_text(MODULE)
    for page in ("book/index", "book/convex/shapes", "book/api/convex", "book/api/convex/shapes"):
        (small_library / f"{page}.md").parent.mkdir(parents=True, exist_ok=True)
        (small_library / f"{page}.md").write_text("# Page\n")
    (small_library / "_toc.yml").write_text(
        "root: book/index\nchapters:\n- file: book/convex/shapes\n- file: book/api/convex\n"
        "  sections:\n  - file: book/api/convex/shapes\n"
    )
    found = {
        place: re.findall(r"^## `(.*)`$", reference.page(place, small_library), re.MULTILINE)
        for place in ("convex/shapes", "convex", "ground")
    }
    assert found == {
        "convex/shapes": ["mdtheory.convex.shapes", "mdtheory.convex.shapes.plane"],
        "convex": ["mdtheory.convex.later"],
        "ground": ["mdtheory.ground"],
    }


def test_what_a_package_only_hands_on_stands_elsewhere(small_library):
    place = small_library / "mdtheory" / "convex" / "shapes"
    (place / "__init__.py").write_text(
        "from mdtheory.ground import volume\nfrom mdtheory.convex.shapes.plane import area\n"
        "from mdtheory.convex import hidden\n\n__all__ = ['area', 'volume']\n"
    )
    (small_library / "book").mkdir()
    (small_library / "book" / "index.md").write_text("# Page\n")
    (small_library / "_toc.yml").write_text("root: book/index\n")
    text = reference.page("ground", small_library)
    head, _, rest = text.partition("## `mdtheory.convex.shapes.plane`")
    assert ":exclude-members: volume\n" in head
    assert ":exclude-members: area, volume\n" in rest


def test_every_module_is_on_some_page_of_the_reference():
    base = ROOT / "book" / "api"
    pages = {path.relative_to(base).with_suffix("").as_posix() for path in base.rglob("*.md")}
    written = "".join(reference.page(place) for place in pages)
    for module, names in reference.modules(ROOT).items():
        above = [f"automodule:: {package}\n" for package in reference._packages(module)]
        assert not names or any(
            line in written for line in [f"automodule:: {module}\n", *above[1:]]
        ), module


def test_the_exercises_page_lists_each_problem_with_its_points():
    listed = assignments.assignments(ROOT)
    sources = {p.relative_to(ROOT / "exercises").with_suffix("").as_posix()
               for p in (ROOT / "exercises").rglob("*.md")}  # fmt: skip
    assert {assignment.name for assignment in listed} == sources
    page = assignments.page(ROOT)
    for assignment in listed:
        assert 4 <= len(assignment.problems) <= 6
        text = (ROOT / "exercises" / f"{assignment.name}.md").read_text("utf-8")
        assert text.count("\n## Problem ") == len(assignment.problems)
        for title, points in assignment.problems:
            assert f"| {title} | {points} |" in page


def test_the_notation_page_has_a_row_for_each_symbol():
    rows = [line for line in notation.page(ROOT).splitlines() if line.startswith("| $")]
    assert len(rows) == len(notation.entries(ROOT))
    assert len({entry.symbol for entry in notation.entries(ROOT)}) == len(rows)


def test_a_function_that_is_left_out_leaves_the_method_of_its_name():
    """A package hands on ``exploitability``; the methods of that name still have their entries."""
    options = {"exclude-members": {"exploitability"}}

    def kept(what, name, skip=True, options=options):
        return reference.keep_methods(None, what, name, None, skip, options)

    assert kept("class", "exploitability") is False
    assert kept("module", "exploitability") is None
    assert kept("class", "hidden") is None
    assert kept("class", "exploitability", skip=False) is None
    assert kept("class", "exploitability", options={}) is None
