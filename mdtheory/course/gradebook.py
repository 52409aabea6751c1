"""Results in nbgrader's gradebook, pages for students, and a record of each submission.

Needs the extra ``course``.
"""

from __future__ import annotations

import functools
import glob
import html
import io
import json
import logging
import os
import re
import secrets
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mdtheory.checks import require_extra
from mdtheory.course.formulas import typeset
from mdtheory.course.intake import CourseError, read_file
from mdtheory.course.marking import Verdict
from mdtheory.course.submission import Result
from mdtheory.files import write_atomically

# Where nbgrader finds the submission that is recorded now, in the course's folder.
STAGED = ".grading"
SECRET = "submission_secret.txt"  # nbgrader's name for it
# Nothing that a page shows can run, wherever it is opened.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)

TAGS = frozenset(
    [
        "a",
        "b",
        "blockquote",
        "br",
        "code",
        "del",
        "div",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "li",
        "ol",
        "p",
        "pre",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
PROTOCOLS = frozenset({"data", "http", "https", "mailto"})
# Pieces of text, and the most characters of one, that are kept as they were made for a page.
MOST_KEPT, LONGEST_KEPT = 500, 50_000
STYLE = "<style>pre { white-space: pre-wrap; } math[display=block] { overflow-x: auto; }</style>"


@contextmanager
def nbgrader(course: Path, name: str, student: str = "*") -> Iterator[tuple[Any, Any, io.StringIO]]:
    """Where nbgrader works, its converters' options, and what it will have logged."""
    coursedir_class = require_extra("nbgrader.coursedir", "course").CourseDirectory
    loader = require_extra("traitlets.config.loader", "course").PyFileConfigLoader
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setLevel(logging.ERROR)
    log = logging.Logger("nbgrader")  # not in the tree of loggers: nobody else's handlers
    log.addHandler(handler)
    config = loader("nbgrader_config.py", str(course)).load_config()
    config.CourseDirectory.root = str(course)
    with warnings.catch_warnings(), _variable("PATH", _path_with_programs()):
        warnings.simplefilter("ignore")  # nbgrader's libraries warn each other of deprecations
        coursedir = coursedir_class(config=config, log=log)
        coursedir.assignment_id = name
        coursedir.student_id = student
        yield coursedir, {"config": config, "log": log, "force": True}, text


@contextmanager
def open_gradebook(course: Path, name: str = "*") -> Iterator[Any]:
    """Nbgrader's gradebook of a course.

    Args:
        course: the course's folder.
        name: the assignment, where it matters.

    Yields:
        The gradebook.

    Raises:
        CourseError: there is none, or it cannot be read.
    """
    api = require_extra("nbgrader.api", "course")
    errors = require_extra("sqlalchemy.exc", "course")
    with nbgrader(course, name) as (coursedir, _, _):
        file = coursedir.db_url.removeprefix("sqlite:///")
        if coursedir.db_url.startswith("sqlite:///") and not Path(file).is_file():
            raise CourseError(
                f"{file}: the gradebook is gone; restore it from a copy, or run "
                f"`mdtheory course release {course}` and grade again"
            )
        try:
            with api.Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                yield gradebook
        except errors.SQLAlchemyError as error:
            raise CourseError(f"{file}: {str(error).splitlines()[0]}") from error


def _path_with_programs() -> str:
    """PATH with this Python's folder: nbgrader starts alembic by name, activated or not."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def convert(converter: Any, log: io.StringIO) -> None:
    """Run one of nbgrader's converters; what it logged becomes the error's text."""
    exceptions = require_extra("nbgrader.converters.base", "course")
    try:
        converter.start()
    except exceptions.NbGraderException as error:
        lines = [line for line in log.getvalue().splitlines() if line.strip()]
        # The line with the exception's own words, from the traceback among those logged.
        told = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Invalid\w*): ", line)]
        raise CourseError(told[-1] if told else str(error)) from error


def record(course: Path, name: str, result: Result, notebook: Any, walls: str) -> Result:
    """Write one result into the gradebook, on the student's page and into the record.

    Each of the three is written whole or not at all, and a second time does no harm; so a
    grading that was killed is mended by the next one.

    Args:
        course: the course's folder.
        name: the assignment.
        result: the result.
        notebook: with outputs; None where nothing ran.
        walls: how submissions were isolated.

    Returns:
        The result; another one where nbgrader refuses the notebook.
    """
    staged = course / STAGED / result.student
    try:
        if notebook is not None:
            _stage(course, name, result.student, notebook)
            _through_nbgrader(course, name, result.student, notebook)
    except Exception as error:  # one bad submission does not end the grading of the others
        words = re.sub(r"\s+", " ", str(error) or type(error).__name__)[:300]
        result, notebook = Result(result.student, "could not run", words), None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    if notebook is None:
        _withdraw(course, name, result.student, result.reason)
    _address(course, name, result.student)
    write_record(course, name, result, walls)
    return result


def _stage(course: Path, name: str, student: str, notebook: Any) -> None:
    """Leave the submission where nbgrader reads it, with its time, if it has one."""
    nbformat = require_extra("nbformat", "course")
    submitted = course / "submitted" / student / name
    if glob.has_magic(str(submitted)):  # nbgrader looks for files by patterns
        raise CourseError(f"{submitted}: a name with one of * ? [ cannot be graded; rename it")
    staged = course / STAGED / student / name
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    (staged / f"{name}.ipynb").write_text(nbformat.writes(notebook) + "\n", "utf-8")
    with suppress(CourseError, UnicodeDecodeError, ValueError):
        text = read_file(submitted / "timestamp.txt", 200).decode().strip()
        require_extra("nbgrader.utils", "course").parse_utc(text)
        (staged / "timestamp.txt").write_text(text + "\n", "utf-8")


def _through_nbgrader(course: Path, name: str, student: str, settled: Any) -> None:
    converters = require_extra("nbgrader.converters", "course")
    execute_class = require_extra("nbgrader.preprocessors", "course").Execute

    def with_outputs(notebook: Any, resources: Any) -> tuple[Any, Any]:
        """In the place of nbgrader's execution: the notebook was executed already."""
        for cell, executed in zip(notebook.cells, settled.cells, strict=True):
            if cell.cell_type == "code":
                cell.outputs = executed.outputs
        return notebook, resources

    with nbgrader(course, name, student) as (coursedir, options, log):
        coursedir.submitted_directory = STAGED
        autograde = converters.Autograde(coursedir=coursedir, **options)
        autograde.autograde_preprocessors = [
            with_outputs if step is execute_class else step
            for step in autograde.autograde_preprocessors
        ]
        convert(autograde, log)
        feedback = converters.GenerateFeedback(coursedir=coursedir, **options)
        feedback.exporter_class = _safe_exporter()
        convert(feedback, log)


def __getattr__(name: str) -> Any:
    # A course's settings name it, so that nbgrader imports it where it makes pages itself.
    if name == "SafeExporter":
        return _safe_exporter()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _safe_exporter() -> Any:
    """Nbconvert's exporter, for pages that run nothing of a student's."""
    html_exporter = require_extra("nbconvert.exporters", "course").HTMLExporter
    bleach = require_extra("bleach", "course")
    jinja2 = require_extra("jinja2", "course")
    cache_class: Any = jinja2.BytecodeCache

    class Compiled(cache_class):  # type: ignore[misc]
        """Templates, compiled once for all students."""

        def __init__(self) -> None:
            self.known: dict[str, bytes] = {}

        def load_bytecode(self, bucket: Any) -> None:
            if bucket.key in self.known:
                bucket.bytecode_from_string(self.known[bucket.key])

        def dump_bytecode(self, bucket: Any) -> None:
            self.known[bucket.key] = bucket.bytecode_to_string()

    compiled = Compiled()
    made_before: dict[tuple[str, tuple[Any, ...]], str] = {}

    class SafeExporter(html_exporter):  # type: ignore[misc, valid-type]
        def _create_environment(self) -> Any:
            environment = super()._create_environment()
            environment.bytecode_cache = compiled
            return environment

        @jinja2.pass_context  # type: ignore[untyped-decorator]
        def markdown2html(self, context: Any, source: str) -> str:
            alone = not context.get("cell", {}).get("attachments")
            options = (self.anchor_link_text, self.exclude_anchor_links, self.embed_images)
            if alone and (source, options) in made_before:
                return made_before[source, options]
            made = super().markdown2html(context, source)
            clean = bleach.clean(made, tags=TAGS, attributes=_may_have, protocols=PROTOCOLS)
            page = typeset(str(clean))
            # Most cells are the assignment's own, the same for everybody.
            if alone and len(made_before) < MOST_KEPT and len(source) + len(page) < LONGEST_KEPT:
                made_before[source, options] = page
            return page

        def from_notebook_node(self, *words: Any, **named: Any) -> Any:
            page, resources = super().from_notebook_node(*words, **named)
            return _with_policy(page), resources

    return SafeExporter


def _may_have(tag: str, name: str, value: str) -> bool:
    """Whether an element made from a student's Markdown keeps an attribute."""
    if tag == "img" and name == "src":
        return value.startswith("data:image/")  # what is attached; nothing is loaded
    if tag == "a" and name == "href":
        return not value.strip().lower().startswith("data:")
    return name in ("alt", "class", "id", "title")


def _with_policy(page: str) -> str:
    """A page that runs and loads nothing; of its own head the scripts, MathJax's, are left out."""
    head, rest = page.split("</head>", 1)
    head = re.sub(r"<script\b.*?</script>", "", head, flags=re.DOTALL)
    meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    start, _, more = head.partition("<head>")
    return f"{start}<head>\n{meta}{more}{STYLE}\n</head>{rest}"


def _withdraw(course: Path, name: str, student: str, reason: str) -> None:
    """Take back marks of an earlier grading, and tell the student why there are none."""
    missing = require_extra("nbgrader.api", "course").MissingEntry
    with suppress(missing), open_gradebook(course, name) as gradebook:
        gradebook.remove_submission(name, student)
    shutil.rmtree(course / "autograded" / student / name, ignore_errors=True)
    page = course / "feedback" / student / name / f"{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        page,
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(name)}</title></head>\n<body>\n<h1>{html.escape(name)}</h1>\n"
        f"<p>Your submission could not be run, so it has no marks.</p>\n"
        f"<pre>{html.escape(reason)}</pre>\n</body>\n</html>\n",
    )


def _address(course: Path, name: str, student: str) -> None:
    """Leave beside a page what nbgrader's exchange sends it by; it would stop at one without.

    The secret came with the submission, and only its student finds the page by it. Where there is
    none, one that nobody knows takes its place.
    """
    submitted, page = course / "submitted" / student / name, course / "feedback" / student / name
    secret = secrets.token_hex().encode()
    with suppress(CourseError):
        secret = read_file(submitted / SECRET, 1000) or secret
    page.mkdir(parents=True, exist_ok=True)
    for file, content in ((SECRET, secret), ("timestamp.txt", b"")):
        if file == SECRET or not (page / file).exists():
            (page / file).write_bytes(content)


# Records --------------------------------------------------------------------------------------


def write_record(course: Path, name: str, result: Result, walls: str) -> None:
    """Keep what the gradebook has no place for: status, reason, words."""
    path = course / "marks" / name / f"{result.student}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(result) | {"walls": walls}, indent=1) + "\n")


def read_records(course: Path, name: str) -> dict[str, tuple[Result, str]]:
    """The records of an assignment.

    Args:
        course: the course's folder.
        name: the assignment.

    Returns:
        Student to result and walls.
    """
    records = {}
    for path in sorted((course / "marks" / name).glob("*.json")):
        with suppress(ValueError, KeyError, TypeError):
            stored = json.loads(path.read_text("utf-8"))
            walls = stored.pop("walls")
            verdicts = [Verdict(**verdict) for verdict in stored.pop("verdicts")]
            records[stored["student"]] = Result(verdicts=verdicts, **stored), walls
    return records
