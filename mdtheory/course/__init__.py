"""What instructors need: the book's assignments as an nbgrader course, and fair marks.

Nothing in the library imports this. The extra ``course`` brings nbgrader; it is imported only when
a course is made or graded.
"""

from mdtheory.course.classroom import (
    assignments,
    exercises_folder,
    new_course,
    release,
    set_due,
)
from mdtheory.course.collecting import collect, left_over
from mdtheory.course.execution import Limits
from mdtheory.course.grading import grade
from mdtheory.course.intake import CourseError
from mdtheory.course.kernel import ForbiddenError, hand_over
from mdtheory.course.marking import (
    Grader,
    GraderError,
    Verdict,
    agrees,
    award,
    fault,
    has_shape,
    load_grader,
)
from mdtheory.course.reporting import report
from mdtheory.course.roster import set_roster
from mdtheory.course.sandbox import Allowance
from mdtheory.course.submission import Result

__all__ = [
    "Allowance",
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
    "fault",
    "grade",
    "hand_over",
    "has_shape",
    "left_over",
    "load_grader",
    "new_course",
    "release",
    "report",
    "set_due",
    "set_roster",
]
