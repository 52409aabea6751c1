"""The execution step: what changed runs again, what did not does not, failures are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools import build, execute, project
from tools.execute import ChapterError
from tools.project import fingerprint

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3 (ipykernel)
  language: python
  name: python3
---

# {title}

```{{code-cell}} ipython3
{code}
```
"""


@pytest.fixture
def small_book(tmp_path, monkeypatch) -> Path:
    """Two chapters: `first` imports `near`, which imports `far`; `second` reads prices.csv."""
    files = {
        "_toc.yml": "format: jb-book\nroot: book/first\nchapters:\n- file: book/second\n",
        "constraints.txt": "torch==1\n",
        "mdtheory/__init__.py": "",
        "mdtheory/far.py": "VALUE = 1\n",
        "mdtheory/near.py": "def value():\n    from mdtheory.far import VALUE\n    return VALUE\n",
        "mdtheory/part/__init__.py": "",
        "mdtheory/part/module.py": '"""Words."""\n\n\ndef f():\n    """More."""\n',
        "mdtheory/unused.py": "VALUE = 3\n",
        "mdtheory/data/prices.csv": "1,2\n",
        "mdtheory/data/other.csv": "1,2\n",
        "book/results/sweep.csv": "1\n",
        "book/first.md": HEADER.format(
            title="First", code="from mdtheory import near\nprint(near.value())"
        ),
        "book/second.md": HEADER.format(title="Second", code='name = "prices"\nprint(name)'),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / ".cache").mkdir()
    return tmp_path


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_pages_come_in_reading_order(small_book):
    assert project.pages(small_book) == ["book/first", "book/second"]
    assert project.chapters(small_book) == ["book/first", "book/second"]


@pytest.mark.parametrize(
    ("name", "changes_first", "changes_second"),
    [
        ("book/first.md", True, False),
        ("book/second.md", False, True),
        ("mdtheory/near.py", True, False),
        ("mdtheory/far.py", True, False),
        ("mdtheory/__init__.py", True, False),
        ("mdtheory/unused.py", False, False),
        ("mdtheory/data/prices.csv", False, True),
        ("mdtheory/data/other.csv", False, False),
        ("book/results/sweep.csv", False, False),
        ("constraints.txt", True, True),
    ],
)
def test_a_file_changes_the_fingerprints_of_its_dependents_only(
    small_book, name, changes_first, changes_second
):
    before = [fingerprint(small_book, f"book/{page}") for page in ("first", "second")]
    code = "\n```{code-cell}\nchanged = 1\n```\n" if name.endswith(".md") else "\nchanged = 1\n"
    append(small_book / name, code)
    after = [fingerprint(small_book, f"book/{page}") for page in ("first", "second")]
    changed = [a != b for a, b in zip(after, before, strict=True)]
    assert changed == [changes_first, changes_second]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("book/first.md", "# First", "# Another title, in prose"),
        ("mdtheory/near.py", "def value():\n", 'def value():\n    """Words."""  # and more\n\n'),
        ("mdtheory/far.py", "VALUE = 1", '"""Mentions sweep.csv and prices."""\nVALUE = (1)'),
    ],
)
def test_words_change_no_fingerprint(small_book, name, before, after):
    old = fingerprint(small_book, "book/first")
    text = (small_book / name).read_text()
    (small_book / name).write_text(text.replace(before, after))
    assert (small_book / name).read_text() != text
    assert fingerprint(small_book, "book/first") == old


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("book/first.md", "from mdtheory", ":tags: [hide-input]\nfrom mdtheory"),
        ("book/first.md", "language: python", "language: python3"),
        ("mdtheory/near.py", "return VALUE", 'return VALUE or "words"'),
        ("mdtheory/near.py", "return VALUE", 'print(VALUE)\n    "sweep"\n    return VALUE'),
        ("mdtheory/far.py", "VALUE = 1", "VALUE = 1.0"),
    ],
)
def test_options_and_code_change_the_fingerprint(small_book, name, before, after):
    old = fingerprint(small_book, "book/first")
    text = (small_book / name).read_text()
    (small_book / name).write_text(text.replace(before, after))
    assert (small_book / name).read_text() != text
    assert fingerprint(small_book, "book/first") != old


def test_words_count_where_a_chapter_shows_them(small_book):
    """In the modules of the book's parts; those of the ground are too many to run for."""
    (small_book / "_toc.yml").write_text("root: book/part/module\n")
    (small_book / "book/part").mkdir()
    cell = "import inspect\nfrom mdtheory import near\nfrom mdtheory.part import module"
    page = small_book / "book/part/module.md"
    page.write_text(HEADER.format(title="Third", code=cell))
    old = fingerprint(small_book, "book/part/module")
    append(small_book / "mdtheory/near.py", "# words\n")
    assert fingerprint(small_book, "book/part/module") == old
    append(small_book / "mdtheory/part/module.py", "# words\n")
    assert fingerprint(small_book, "book/part/module") != old
    page.write_text(page.read_text().replace("import inspect", "import this"))
    old = fingerprint(small_book, "book/part/module")
    append(small_book / "mdtheory/part/module.py", "# more words\n")
    assert fingerprint(small_book, "book/part/module") == old


def test_times_belong_to_pages_not_to_names(small_book):
    report = small_book / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase name="games.ipynb" time="1.5" '
        'file=".cache/notebooks/rl/games.ipynb"/><testcase name="games.ipynb" time="2.5" '
        'file=".cache/notebooks/nlhf/games.ipynb"/><testcase name="sea.ipynb" time="9" '
        'file=".cache/notebooks/rl/sea.ipynb"><failure/></testcase></testsuite></testsuites>'
    )
    pages = ["book/rl/games", "book/nlhf/games", "book/rl/sea"]
    found = execute.times(small_book, report, pages)
    assert found == {"book/rl/games": 1.5, "book/nlhf/games": 2.5}


def test_planned_rooms_stand_before_their_chapter(small_book):
    assert project.rooms(small_book, {}) == ["first", "second"]
    planned = {"a": "second", "b": "second", "c": "first"}
    assert project.rooms(small_book, planned) == ["c", "first", "a", "b", "second"]
    assert project.rooms(small_book, {"a": ""}) == ["first", "second", "a"]
    with pytest.raises(ValueError, match="first has a page now"):
        project.rooms(small_book, {"first": "second"})
    with pytest.raises(ValueError, match="stand before none, which is no chapter"):
        project.rooms(small_book, {"d": "none"})


def test_parts_are_the_folders_of_the_chapters(small_book):
    assert project.parts(small_book) == []
    assert project.parts(project.ROOT) == ["convex", "rl", "nlhf"]


def test_a_new_python_changes_every_fingerprint(small_book, monkeypatch):
    before = fingerprint(small_book, "book/first")
    monkeypatch.setattr(project.platform, "python_version", lambda: "3.99.0")
    assert fingerprint(small_book, "book/first") != before


def test_relative_imports_are_followed():
    tree = project.parse_cell("from . import a\nfrom ..b import c\n%matplotlib inline\n")
    assert project.imports(tree, "mdtheory.convex.here") == ["mdtheory.convex.a", "mdtheory.b.c"]


def test_only_what_changed_is_executed(small_book):
    def run() -> list[str]:
        return [done.page for done in execute.execute(small_book)]

    def printed(page: str) -> str:
        notebook = nbformat.read(execute.notebook_path(small_book, page), 4)
        return notebook.cells[1].outputs[0].text

    assert run() == ["book/first", "book/second"]
    assert printed("book/first") == "1\n"
    assert run() == []
    (small_book / "mdtheory/far.py").write_text("VALUE = 2\n")
    assert run() == ["book/first"]
    assert printed("book/first") == "2\n"
    append(small_book / "mdtheory/data/prices.csv", "3,4\n")
    assert run() == ["book/second"]
    # What an interrupted run leaves: a notebook without outputs, a torn stamp, no cache.
    source = execute.read_chapter(small_book, "book/first")
    nbformat.write(source, execute.notebook_path(small_book, "book/first"))
    execute.stamp_path(small_book, "book/second").write_text('{"fingerprint": ')
    assert run() == ["book/first", "book/second"]
    assert run() == []


def test_a_failing_cell_names_chapter_and_cell(small_book):
    append(small_book / "book/second.md", "\n```{code-cell} ipython3\n\nassert 1 > 2\n```\n")
    with pytest.raises(ChapterError, match=r"book/second\.md: cell 2 ") as caught:
        execute.execute(small_book)
    assert "(assert 1 > 2): AssertionError" in str(caught.value)
    assert not execute.stamp_path(small_book, "book/second").exists()
    # The chapter that was fine keeps its outputs, the other one runs again.
    assert execute.stamp_path(small_book, "book/first").exists()
    (small_book / "book/second.md").write_text(
        (small_book / "book/second.md").read_text().replace("1 > 2", "1 < 2")
    )
    assert [done.page for done in execute.execute(small_book)] == ["book/second"]


def test_a_page_without_its_outputs_is_a_fault(small_book):
    for page in project.chapters(small_book):
        notebook = execute.read_chapter(small_book, page)
        notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
        execute.notebook_path(small_book, page).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, execute.notebook_path(small_book, page))
    site = small_book / build.SITE / "book"
    site.mkdir(parents=True)
    (site / "first.html").write_text('<div class="cell_output docutils">1</div>')
    assert build.faults(small_book) == [
        f"book/second: no page {site / 'second.html'}",
    ]
    (site / "second.html").write_text("<p>no output here</p>")
    assert build.faults(small_book) == ["book/second: 0 cells with outputs, 1 expected"]


def test_a_stamp_is_written_whole_or_not_at_all(tmp_path):
    project.write_json(tmp_path / "a" / "stamp.json", {"x": 1})
    assert json.loads((tmp_path / "a" / "stamp.json").read_text()) == {"x": 1}
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["stamp.json"]
    (tmp_path / "torn.json").write_text("{")
    assert project.read_json(tmp_path / "torn.json") == {}
    assert project.read_json(tmp_path / "none.json") == {}


def test_two_commands_do_not_build_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tools.project import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(project.ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with (
        subprocess.Popen(command, **pipes) as holder,
        subprocess.Popen(command, **pipes) as waiter,
    ):
        # One of the two holds the lock; the other prints only once the first has gone.
        first, second = (holder, waiter) if _ready(holder, waiter) else (waiter, holder)
        assert first.stdout.readline() == "in\n"
        assert not _ready(second)
        first.communicate()
        assert second.stdout.readline() == "in\n"
        second.communicate()


def _ready(*processes, seconds: float = 1.0) -> bool:
    """Whether the first process printed; waits for any of them if there are several."""
    import select

    outputs = [process.stdout for process in processes]
    readable, _, _ = select.select(outputs, [], [], 20 if len(outputs) > 1 else seconds)
    return outputs[0] in readable
