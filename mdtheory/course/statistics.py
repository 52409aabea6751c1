"""How a class did, problem by problem, and whose submissions are alike.

Needs the extra ``course``.
"""

from __future__ import annotations

import io
import keyword
import tokenize
from itertools import combinations
from pathlib import Path

import numpy as np

from mdtheory.checks import require_extra
from mdtheory.course.classroom import assignments, find, released
from mdtheory.course.gradebook import read_records
from mdtheory.course.intake import CourseError, read_notebook
from mdtheory.course.marking import load_grader
from mdtheory.course.reporting import marks, write_csv
from mdtheory.course.submission import marks_cell
from mdtheory.files import write_atomically

# Tokens in a row that two submissions share, or do not.
RUN = 12


def statistics(course: Path, name: str) -> tuple[list[str], list[list[str]]]:
    """How each problem went: mean, quartiles, and shares, of those who have marks.

    Also written to ``marks/NAME-statistics.csv``, and drawn in ``marks/NAME-statistics.png``.

    Args:
        course: the course's folder.
        name: the assignment.

    Returns:
        The header, and a row for each problem and the whole.

    Raises:
        CourseError: nobody was graded.
    """
    course = course.resolve()
    grader = load_grader(find(assignments(course), name).with_suffix(".py"))
    table, most = marks(course, name)
    records = read_records(course, name)
    graded = {student: mark for student, mark in table.items() if mark.points}
    if not graded:
        raise CourseError(f"{name}: nobody was graded yet; run `mdtheory course grade`")
    header = ["problem", "points", "mean", "quartile 1", "median", "quartile 3"]
    header += ["full marks", "could not run"]
    rows, shares = [], []
    for problem, points in grader.points.items():
        scores = np.array([m.points.get(marks_cell(problem), 0.0) for m in graded.values()])
        failed = [
            verdict.outcome == "could not run"
            for result, _ in records.values()
            for verdict in result.verdicts
            if verdict.problem == problem
        ]
        failed += [True for result, _ in records.values() if not result.verdicts]
        rows.append(_row(problem, scores, points, float(np.mean(failed)) if failed else 0.0))
        shares.append(scores / points)
    whole = np.array([mark.score for mark in graded.values()])
    statuses = [result.status == "could not run" for result, _ in records.values()]
    rows.append(_row("all", whole, most, float(np.mean(statuses)) if statuses else 0.0))
    write_csv(course / "marks" / f"{name}-statistics.csv", [header, *rows])
    _draw(course / "marks" / f"{name}-statistics.png", list(grader.points), shares, len(graded))
    return header, rows


def _row(problem: str, scores: np.ndarray, points: float, failed: float) -> list[str]:
    quartiles = np.quantile(scores, [0.25, 0.5, 0.75])
    full = float(np.mean(scores >= points - 1e-9))
    cells = [f"{points:g}", *(f"{value:.3g}" for value in (scores.mean(), *quartiles))]
    return [problem, *cells, f"{full:.0%}", f"{failed:.0%}"]


def _draw(path: Path, problems: list[str], shares: list[np.ndarray], students: int) -> None:
    """A box for each problem: the share of its points that students have."""
    figure_class = require_extra("matplotlib.figure", "course").Figure
    figure = figure_class(figsize=(7, 0.6 * len(problems) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.boxplot(shares[::-1], orientation="horizontal", widths=0.6, showmeans=True)
    axes.set_yticks(range(1, len(problems) + 1), problems[::-1])
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel(f"share of the points, {students} students; triangle: mean")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomically(path, content.getvalue())


def similar(course: Path, name: str, least: float = 0.5) -> list[tuple[float, str, str]]:
    """Pairs of submissions with much code in common: a list to look at, never a verdict.

    Names, numbers, comments and layout do not count, nor does what was given out. Short answers
    to one question are often alike; what is common to a third of the class is left out.

    Args:
        course: the course's folder.
        name: the assignment.
        least: of the shorter one's runs of tokens, the share that the other one has too.

    Returns:
        Shares and two students each, the most alike first.
    """
    course = course.resolve()
    find(assignments(course), name)
    given = _runs(read_notebook(released(course, name)))
    runs: dict[str, set[int]] = {}
    for path in sorted(course.glob(f"submitted/*/{name}/{name}.ipynb")):
        try:
            runs[path.parts[-3]] = _runs(read_notebook(path)) - given
        except CourseError:
            continue
    counts: dict[int, int] = {}
    for own in runs.values():
        for run in own:
            counts[run] = counts.get(run, 0) + 1
    common = {run for run, count in counts.items() if count > max(2, len(runs) / 3)}
    pairs = []
    for (one, first), (two, second) in combinations(runs.items(), 2):
        first, second = first - common, second - common
        if min(len(first), len(second)) >= 20:
            share = len(first & second) / min(len(first), len(second))
            if share >= least:
                pairs.append((share, one, two))
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))


def _runs(notebook: object) -> set[int]:
    """Hashes of all runs of tokens, cell by cell."""
    found = set()
    for cell in notebook.cells:  # type: ignore[attr-defined]
        if cell.cell_type == "code":
            tokens = _tokens(cell.source)
            found |= {hash(tuple(tokens[i : i + RUN])) for i in range(len(tokens) - RUN + 1)}
    return found


def _tokens(source: str) -> list[str]:
    """Kinds of tokens; keywords and signs as they are."""
    kinds = {tokenize.NUMBER: "0", tokenize.STRING: "s", tokenize.INDENT: ">", tokenize.DEDENT: "<"}
    tokens = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME:
                tokens.append(token.string if keyword.iskeyword(token.string) else "n")
            elif token.type == tokenize.OP:
                tokens.append(token.string)
            elif token.type in kinds:
                tokens.append(kinds[token.type])
    except (tokenize.TokenError, SyntaxError):  # what came before the fault counts
        pass
    return tokens
