"""The list of students, and the names that Moodle and Canvas have for them.

A roster is a CSV file in the course's folder, ``roster.csv``, with a column ``student`` (the name
of folders and in the gradebook) and any of ``name``, ``id``, ``email``, ``moodle`` and ``canvas``.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from mdtheory.course.intake import CourseError, decode, read_file
from mdtheory.files import write_atomically

COLUMNS = ("student", "name", "id", "email", "moodle", "canvas")
# What Moodle calls a submission: full name, a number of its own, and this; then a file or nothing.
MOODLE = re.compile(
    r"(?P<name>.+)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<rest>.*)"
)
# What Canvas calls one: the name without spaces, its ids of the student and of the submission.
CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_|late_)?(?P<number>\d+)_\d+_(?P<rest>.+)")
# What browsers and Canvas add to the name of a file that is there already.
AGAIN = re.compile(r"\s*\(\d+\)$|-\d+$| - Copy$|_copy$", re.IGNORECASE)


@dataclass(frozen=True)
class Person:
    """A row of the roster; what is not known is "".

    Attributes:
        student: the name of folders and in the gradebook.
        name: the full name.
        id: the institution's number.
        email: the address.
        moodle: Moodle's number of the participant, for one assignment.
        canvas: Canvas's number of the user.
    """

    student: str
    name: str = ""
    id: str = ""
    email: str = ""
    moodle: str = ""
    canvas: str = ""


def read_roster(path: Path) -> list[Person]:
    """Read a roster.

    Args:
        path: the CSV file.

    Returns:
        Its rows.

    Raises:
        CourseError: it is no roster; the words say which line is at fault.
    """
    try:
        lines = decode(read_file(path)).splitlines()
    except UnicodeDecodeError:
        raise CourseError(f"{path}: expected a CSV file in UTF-8") from None
    dialect = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    rows = list(csv.DictReader(lines, delimiter=dialect))
    header = {(key or "").strip().lower() for key in (rows[0] if rows else {})}
    if not {"student", "id", "name"} & header:
        raise CourseError(f"{path}: expected columns {', '.join(COLUMNS)} (one of the first three)")
    people: list[Person] = []
    seen: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        cells = {(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if k}
        known = {key: cells.get(key, "") for key in COLUMNS}
        known["student"] = known["student"] or known["id"] or known["name"]
        if why := bad_name(known["student"]):
            raise CourseError(f"{path}, line {line}: student {known['student']!r}: {why}")
        if known["student"] in seen:
            raise CourseError(
                f"{path}, line {line}: {known['student']} is also in line {seen[known['student']]}"
            )
        seen[known["student"]] = line
        people.append(Person(**known))
    return people


def roster_of(course: Path) -> list[Person]:
    """The course's roster; empty where it has none.

    Args:
        course: the course's folder.

    Returns:
        Its rows.
    """
    path = course / "roster.csv"
    return read_roster(path) if path.is_file() else []


def set_roster(course: Path, path: Path) -> list[Person]:
    """Take a roster into the course.

    Args:
        course: the course's folder.
        path: the CSV file.

    Returns:
        Its rows.

    Raises:
        CourseError: it is no roster.
    """
    people = read_roster(path)
    write_atomically(course / "roster.csv", read_file(path))
    return people


def bad_name(student: str) -> str:
    """Why a name cannot be that of a folder; "" where it can.

    Args:
        student: the name.

    Returns:
        Words, or nothing.
    """
    if not student.strip() or student != student.strip():
        return "a name is empty, or begins or ends with a space"
    if student.startswith((".", "-")):
        return "a name begins with a dot or a dash"
    if re.search(r"[/\\*?\[\]{}<>:|\"]", student) or not student.isprintable():
        return "a name has one of / \\ * ? [ ] { } < > : | or a quote in it"
    if len(student.encode()) > 150:
        return "a name is too long"
    return ""


def whose(entry: str, people: list[Person]) -> tuple[str, str]:
    """The student of a download's file or folder.

    Args:
        entry: its name, without the ending of a file.
        people: the roster; where it is empty, the name itself is taken.

    Returns:
        The student and "", or "" and what to do.
    """
    keys: list[tuple[str, str]] = []
    given = entry
    if found := MOODLE.fullmatch(entry):
        keys, given = [("moodle", found["number"]), ("name", found["name"])], found["name"]
    elif found := CANVAS.fullmatch(entry):
        keys, given = [("canvas", found["number"]), ("name", found["name"])], found["name"]
    keys += [(column, entry) for column in ("student", "id", "email", "name")]
    keys += [("student", AGAIN.sub("", given)), ("name", AGAIN.sub("", given))]
    if not people:
        student = AGAIN.sub("", given).strip()
        return ("", bad_name(student)) if bad_name(student) else (student, "")
    for column, value in keys:
        matching = [p for p in people if value and _same(getattr(p, column), value, column)]
        if len(matching) == 1:
            return matching[0].student, ""
        if len(matching) > 1:
            names = ", ".join(person.student for person in matching)
            return "", f"fits {names}; call it like one of them"
    return "", "is nobody in the roster; add a row, or call it like its student"


def _same(known: str, value: str, column: str) -> bool:
    if column != "name":
        return known.casefold() == value.casefold() and known != ""
    known, value = _squashed(known), _squashed(value)
    # Canvas puts the family name first, without a space.
    words = known.split()
    return value.replace(" ", "") in {
        "".join(words),
        "".join(words[-1:] + words[:-1]),
    } and bool(words)


def _squashed(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(re.sub(r"[^\w\s]", "", plain).split())


def for_moodle(
    people: list[Person], name: str, scores: dict[str, float], most: float
) -> list[list[str]]:
    """A table that Moodle's import of grades reads, by address or number.

    Args:
        people: the roster.
        name: the assignment, the column's title.
        scores: student to points.
        most: the most points.

    Returns:
        The header and a row for everybody in the roster who has a mark.
    """
    header = ["Identifier", "Full name", "ID number", "Email address", name, "Maximum Grade"]
    return [header] + [
        [
            f"Participant {person.moodle}" if person.moodle else "",
            person.name or person.student,
            person.id,
            person.email,
            f"{scores[person.student]:g}",
            f"{most:g}",
        ]
        for person in people
        if person.student in scores
    ]


def for_canvas(
    people: list[Person], name: str, scores: dict[str, float], most: float
) -> list[list[str]]:
    """A table that Canvas's import of grades reads.

    Args:
        people: the roster.
        name: the assignment, as Canvas calls it, best with its number in brackets.
        scores: student to points.
        most: the most points.

    Returns:
        The header, the row of points possible, and a row for everybody who has a mark.
    """
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", name]
    possible = ["    Points Possible", "", "", "", "", f"{most:g}"]
    return [header, possible] + [
        [
            person.name or person.student,
            person.canvas,
            person.id,
            person.email,
            "",
            f"{scores[person.student]:g}",
        ]
        for person in people
        if person.student in scores
    ]
