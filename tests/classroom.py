"""A small course for tests: an assignment of two problems, released, and submissions to it."""

import textwrap
from pathlib import Path

import nbformat

import mdtheory.course.classroom as classroom
from mdtheory.course import load_grader, release

SOURCE = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Assignment: sums

```{code-cell} ipython3
import torch
```
"""

PROBLEM = """
```{{code-cell}} ipython3
---
nbgrader:
  grade: false
  grade_id: {name}
  locked: false
  schema_version: 3
  solution: true
  task: false
---
def {name}(x, scale):
    ### BEGIN SOLUTION
    {solution}
    ### END SOLUTION
```

```{{code-cell}} ipython3
---
nbgrader:
  grade: true
  grade_id: marks_{name}
  locked: true
  points: 2
  schema_version: 3
  solution: false
  task: false
---
# Marks.
### BEGIN HIDDEN TESTS
from mdtheory.course import hand_over

hand_over("{name}", globals())
### END HIDDEN TESTS
```
"""

GRADER = """
import numpy as np
from mdtheory.course import agrees, award

POINTS = {"total": 2, "largest": 2}
FORBIDDEN = {"largest": ["Simplex"]}


def check_total(call, generator):
    x = generator.normal(0, 1, (3,))
    score = award(call, 1, agrees(call("total", x, 2.0), 2 * x.sum(-1)), "wrong on vectors")
    x = generator.normal(0, 1, (2, 3))
    return score + award(call, 1, agrees(call("total", x, 2.0), 2 * x.sum(-1)), "wrong on a batch")


def check_largest(call, generator):
    x = generator.normal(0, 1, (4,))
    return award(call, 2, agrees(call("largest", x, 3), 3 * x.max(-1)), "wrong")
"""

TOTAL = "def total(x, scale):\n    return scale * x.sum(-1)"
# Asleep, so that it costs a loaded machine nothing; as endless as a busy one.
LOOP = "import time\ndef total(x, scale):\n    while True:\n        time.sleep(0.1)"
FLOOD = "def largest(x, scale):\n    while True:\n        print(2000 * 'x')"
LARGEST = "def largest(x, scale):\n    return scale * x.amax(-1)"


def write_exercises(folder: Path, *, solution: str = "return scale * x.sum(-1)") -> None:
    """An assignment of two problems, in the place of the chapter 'mirror_maps'."""
    part = folder / "convex"
    part.mkdir(parents=True)
    source = SOURCE + PROBLEM.format(name="total", solution=solution)
    source += PROBLEM.format(name="largest", solution="return scale * x.amax(-1)")
    (part / "mirror_maps.md").write_text(source, "utf-8")
    (part / "mirror_maps.py").write_text(GRADER, "utf-8")


def make_course(folder: Path, **options: str) -> Path:
    """A released course with that assignment."""
    write_exercises(folder / "exercises", **options)
    (folder / "course.json").write_text('{"seed": 7}', "utf-8")
    (folder / "nbgrader_config.py").write_text(classroom.CONFIG.format(name="test"), "utf-8")
    release(folder, [])
    return folder


def submit(course: Path, student: str, total: str = TOTAL, largest: str = LARGEST) -> Path:
    """A student's notebook with these two cells."""
    notebook = nbformat.read(course / "release/mirror_maps/mirror_maps.ipynb", as_version=4)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = {"total": total, "largest": largest}.get(name, cell.source)
    path = course / "submitted" / student / "mirror_maps" / "mirror_maps.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def small_grader(folder: Path, text: str = GRADER):
    path = folder / "convex" / "mirror_maps.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text), "utf-8")
    return load_grader(path)
