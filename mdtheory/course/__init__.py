"""What instructors need: the book's assignments as an nbgrader course, and fair marks.

Nothing in the library imports this. The extra ``course`` brings nbgrader; it is imported only when
a course is made or graded.
"""

from mdtheory.course.classroom import (
    assignments,
    collect,
    exercises_folder,
    grade,
    left_over,
    new_course,
    release,
    report,
)
from mdtheory.course.intake import CourseError
from mdtheory.course.kernel import ForbiddenError, forbidden, hand_over
from mdtheory.course.marking import (
    Grader,
    GraderError,
    Verdict,
    agrees,
    award,
    load_grader,
)
from mdtheory.course.submission import Limits, Result

__all__ = [
    "CourseError",
    "ForbiddenError",
    "Grader",
    "GraderError",
    "Limits",
    "Result",
    "Verdict",
    "agrees",
    "assignments",
    "award",
    "collect",
    "exercises_folder",
    "forbidden",
    "grade",
    "hand_over",
    "left_over",
    "load_grader",
    "new_course",
    "release",
    "report",
]
