"""The theorem ledger: nothing in the book is unchecked, nothing checked is unstated."""

import nbformat
import pytest

from tools import ledger
from tools.execute import execute, notebook_path, read_chapter
from tools.project import ROOT, locked

STATED = """---
kernelspec: {name: python3, display_name: Python 3}
---

# A chapter

$$
x = 1
$$ (eq-one)

```{prf:theorem} First ({cite:t}`cover1991universal`)
:label: thm-first

It holds.
```

:::{prf:lemma} Second
:label: lem-second

It holds, too.
:::

```{prf:definition} Third
:label: def-third

Not for the ledger.
```

```{code-cell} ipython3
1
```
"""
TESTS = """
import pytest

@pytest.mark.theorem("thm-first", "bound")
def test_one(): ...

@pytest.mark.theorem("thm-first", "equality")
def test_two(): ...

@pytest.mark.theorem("thm-first", "mutant")
@pytest.mark.theorem("lem-second", "mutant")
@pytest.mark.parametrize("x", [1])
def test_three(x): ...
"""


@pytest.fixture
def small_book(tmp_path):
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/chapter\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "book" / "chapter.md").write_text(STATED)
    (tmp_path / "tests" / "test_chapter.py").write_text(TESTS)
    write_checks(tmp_path, "thm-first", "lem-second")
    return tmp_path


def write_checks(root, *labels):
    notebook = read_chapter(root, "book/chapter")
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.outputs = [
        nbformat.v4.new_output(
            "display_data",
            {"text/plain": label},
            metadata={
                "mdtheory_check": [{"label": label, "kind": "bound", "instances": 7, "worst": 0.25}]
            },
        )
        for label in labels
    ]
    path = notebook_path(root, "book/chapter")
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def test_what_a_page_states(small_book):
    first, second = ledger.statements(small_book)
    page = "book/chapter"
    assert first == ("thm-first", "theorem", "First", page, "{cite:t}`cover1991universal`")
    assert second == ("lem-second", "lemma", "Second", page, "proved here")
    assert ledger.labels_of_book(small_book) == {
        "eq-one": "equation",
        "thm-first": "statement",
        "lem-second": "statement",
        "def-third": "statement",
    }


def test_the_source_may_stand_in_the_paragraph_after_the_statement(small_book):
    page = small_book / "book" / "chapter.md"
    page.write_text(
        STATED.replace("too.\n:::\n", "too.\n:::\n\nSee\n{cite:p}`hazan`, {cite:t}`x`.\n")
    )
    assert ledger.statements(small_book)[1].source == "{cite:p}`hazan`"
    page.write_text(STATED.replace("too.\n:::\n", "too.\n:::\n\nSee.\n\nNot {cite:p}`hazan`.\n"))
    assert ledger.statements(small_book)[1].source == "proved here"


def test_the_page_lists_tests_instances_and_worst_ratio(small_book):
    line = ledger.page(small_book).splitlines()[2]
    assert "{prf:ref}`thm-first`" in line
    assert "1 bound, 1 equality, 1 mutant" in line
    assert "| 7\N{NO-BREAK SPACE}instances,\N{NO-BREAK SPACE}ratio\N{NO-BREAK SPACE}0.25 |" in line


def test_what_is_missing_is_a_fault(small_book):
    assert ledger.faults(small_book) == ["lem-second: no test of kind equality"]
    write_checks(small_book, "thm-first")
    assert "lem-second: no check cell in its chapter" in ledger.faults(small_book)
    write_checks(small_book, "thm-first", "lem-second", "thm-none")
    assert "thm-none: a cell checks it, no page states it" in ledger.faults(small_book)
    page = small_book / "book" / "chapter.md"
    page.write_text(STATED.replace(":label: lem-second", ":label: lem-other"))
    found = ledger.faults(small_book)
    assert "lem-second: a test is marked with it, no page states it" in found
    assert "lem-other: no test of kind mutant" in found
    page.write_text(STATED.replace(":label: lem-second\n", ""))
    with pytest.raises(ValueError, match=r"book/chapter\.md: the lemma 'Second' has no label"):
        ledger.statements(small_book)


@pytest.mark.parametrize("mark", ['"thm-first"', '"thm-first", "proof"', "label, kind"])
def test_a_mark_that_says_too_little_is_refused(small_book, mark):
    (small_book / "tests" / "test_bad.py").write_text(f"@pytest.mark.theorem({mark})\ndef f(): ...")
    with pytest.raises(ValueError, match=r"tests/test_bad\.py:1: expected"):
        ledger.marked_tests(small_book)


def test_the_ledger_of_the_book_has_no_fault():
    with locked(ROOT):
        execute(ROOT)  # nothing, where `make test` has just done it
    assert ledger.faults(ROOT) == []
