"""JupyterLab: a chapter opens as a notebook, and saving it leaves its text as it was."""

import json

import pytest

from tools import lab
from tools.project import ROOT

SOURCES = [str(path.relative_to(ROOT)) for path in lab.notebooks_in_text(ROOT)]
CHAPTER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

One sentence.
Another with $x_t$.

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: |
      A long caption that another writer of YAML would fold into several lines of its own style.
      It has two sentences.
    name: fig-first
---
x = 1
```

```{code-cell} ipython3
:nbgrader: {"grade": false, "grade_id": "first", "schema_version": 3, "solution": true}

y = 2
```

```{code-cell} ipython3
:tags: [hide-input]

z = 3
```
"""


@pytest.mark.parametrize("name", SOURCES)
def test_saving_leaves_a_source_as_it_was(name):
    text = (ROOT / name).read_text("utf-8")
    assert lab.round_trip(text) == text


def test_an_edit_is_saved_and_the_rest_keeps_its_spelling():
    manager_text = lab.round_trip(CHAPTER)
    assert manager_text == CHAPTER
    edited = CHAPTER.replace("x = 1", "x = 4").replace("Another", "A new one")
    assert lab.keep_style(CHAPTER, lab.round_trip(edited)) == edited


def test_without_the_old_text_the_style_would_change():
    """The mutant: Jupytext alone rewrites the caption, so the test above can fail."""
    import jupytext

    plain = jupytext.writes(jupytext.reads(CHAPTER, fmt="md:myst"), fmt="md:myst")
    assert plain != CHAPTER


def test_changed_options_are_saved():
    changed = CHAPTER.replace("fig-first", "fig-second")
    saved = lab.keep_style(CHAPTER, lab.round_trip(changed))
    assert "fig-second" in saved
    assert "fig-first" not in saved


def test_the_contents_manager_saves_through_it(tmp_path):
    manager = lab.BookContentsManager(root_dir=str(tmp_path))
    (tmp_path / "jupytext.toml").write_text((ROOT / "jupytext.toml").read_text())
    (tmp_path / "chapter.md").write_text(CHAPTER)
    model = manager.get("chapter.md", type="notebook", content=True)
    assert [cell["cell_type"] for cell in model["content"]["cells"]] == ["markdown"] + 3 * ["code"]
    model["content"]["metadata"]["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    manager.save(model, "chapter.md")
    assert (tmp_path / "chapter.md").read_text() == CHAPTER
    model["content"]["cells"][1]["source"] = "x = 5"
    manager.save(model, "chapter.md")
    assert (tmp_path / "chapter.md").read_text() == CHAPTER.replace("x = 1", "x = 5")


def test_markdown_opens_as_a_notebook(tmp_path):
    settings = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"other": {"a": 1}}')
    lab.prepare(tmp_path)
    known = json.loads(settings.read_text())
    assert known["other"] == {"a": 1}
    viewers = known["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"]
    assert viewers["markdown"] == "Jupytext Notebook"
