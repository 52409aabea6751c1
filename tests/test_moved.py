"""Old import paths work, or fail and say where the thing is now, as CHANGELOG.md says."""

import importlib
import re
import sys
import types

import pytest

from mdtheory import moved
from tools.project import ROOT

ROW = re.compile(
    r"^\| `(mdtheory[\w.]*)(?:\{([\w, ]+)\})?` \| `(mdtheory[\w.]*)` \| (works|fails) \|$",
    re.MULTILINE,
)


def listed():
    """Old path, new path and fate; a row with names in braces stands for each of them."""
    for old, names, new, fate in ROW.findall((ROOT / "CHANGELOG.md").read_text("utf-8")):
        if not names:
            yield old, new, fate
        for name in names.split(", ") if names else ():
            yield old + name, f"{new}.{name}", fate


LISTED = list(listed())


def resolve(path):
    """A module or a name of one, by the longest part of the path that is a module."""
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("old", "new", "fate"), LISTED)
def test_an_old_path_does_what_the_changelog_says(old, new, fate):
    there = resolve(new)
    if fate == "works":
        assert resolve(old) is there
    else:
        with pytest.raises(ImportError, match=re.escape(f"{old} has moved: it is {new} now")):
            resolve(old)


def test_the_changelog_lists_what_has_moved():
    fails = {old: new for old, new, fate in LISTED if fate == "fails"}
    assert fails == moved.MOVED
    rows = (ROOT / "CHANGELOG.md").read_text("utf-8").count("\n| `mdtheory")
    assert len(set(LISTED)) == len(LISTED) >= rows > 0


def test_a_name_that_has_moved_says_where_to(monkeypatch):
    module = types.ModuleType("old_module")
    module.__getattr__ = moved.names_of("old_module", {"old_module.step": "new.dual_step"})
    monkeypatch.setitem(sys.modules, "old_module", module)
    with pytest.raises(ImportError, match=r"^old_module\.step has moved: it is new\.dual_step now"):
        from old_module import step  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'other'"):
        from old_module import other  # noqa: F401
    assert not hasattr(module, "other")


def test_a_module_that_has_moved_says_where_to(monkeypatch):
    finder = moved.Finder({"mdtheory.nowhere": "mdtheory.somewhere"})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    with pytest.raises(
        ImportError, match=r"mdtheory\.nowhere has moved: it is mdtheory\.somewhere"
    ):
        importlib.import_module("mdtheory.nowhere")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mdtheory.nothing")


def test_one_finder_is_enough():
    before = list(sys.meta_path)
    moved.install()
    assert sys.meta_path == before
    assert sum(isinstance(finder, moved.Finder) for finder in before) == 1
