"""The command line: what it prints, where, and with which exit code."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import mdtheory
import mdtheory.course
from mdtheory.cli import main
from mdtheory.course import CourseError, GraderError, Limits, Result, Verdict


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"mdtheory {mdtheory.__version__}\n"


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "mdtheory", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"mdtheory {mdtheory.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "SUBJECT"),
        (["course"], "STEP"),
        (["course", "mark"], "invalid choice"),
        (["course", "new"], "DIR"),
        (["course", "grade", "here"], "ASSIGNMENT"),
        (["course", "grade", "here", "x", "--time-limit", "soon"], "positive number"),
        (["course", "grade", "here", "x", "--cell-time-limit", "0"], "positive number"),
        (["course", "grade", "here", "x", "--jobs", "0"], "positive whole number"),
        (["course", "grade", "here", "x", "--walls", "paper"], "invalid choice"),
        (["course", "grade", "here", "x", "--time-limit", "inf"], "positive number"),
    ],
)
def test_what_is_not_understood_is_usage(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["course", "--help"], ["course", "grade", "--help"]])
def test_help_is_no_failure(capsys, words):
    with pytest.raises(SystemExit, match="0"):
        main(words)
    assert "usage: mdtheory" in capsys.readouterr().out


def test_a_course_from_beginning_to_release(tmp_path, capsys):
    course = tmp_path / "course"
    assert main(["course", "new", str(course)]) == 0
    out = capsys.readouterr().out
    assert "mirror_maps" in out
    assert f"mdtheory course release {course}" in out
    assert main(["course", "release", str(course), "mirror_maps"]) == 0
    released = course / "release" / "mirror_maps" / "mirror_maps.ipynb"
    assert capsys.readouterr().out == f"{released}\n"
    assert released.is_file()
    assert main(["course", "new", str(course)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"mdtheory: {course}: expected an empty folder")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "ada.ipynb").write_bytes(released.read_bytes())
    assert main(["course", "collect", str(course), "mirror_maps", str(inbox)]) == 0
    assert capsys.readouterr().out == "1 submissions: ada\n"
    assert (course / "submitted" / "ada" / "mirror_maps" / "mirror_maps.ipynb").is_file()


def test_grading_tells_could_not_run_from_wrong(tmp_path, capsys, monkeypatch):
    """What is printed of results; the grading itself has its own tests."""
    asked = []

    def grade(course, name, limits, tell, *, students, jobs, walls, say):
        asked.append((course, name, limits, students, jobs, walls))
        say("limits alone")
        results = [
            Result("ada", "graded", "", [Verdict("total", 1.5, 2, "partly right")]),
            Result("bob", "could not run", "no file x.ipynb"),
            Result("cyd", "stopped", "the kernel died", [Verdict("total", 2, 2, "right")]),
        ]
        for result in results:
            tell(result)
        return results

    def collect(course, name, folder):
        asked.append(folder)
        return ["ada"]

    monkeypatch.setattr(mdtheory.course, "grade", grade)
    monkeypatch.setattr(mdtheory.course, "collect", collect)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "gus.docx").write_text("")
    words = ["course", "grade", str(tmp_path), "sums", "--from", str(inbox), "--time-limit", "9"]
    assert main([*words, "--jobs", "3", "--student", "ada", "--student", "bob"]) == 3
    assert asked[0] == inbox
    limits = Limits(notebook=9.0, cell=60.0)
    assert asked[1] == (tmp_path, "sums", limits, ["ada", "bob"], 3, None)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "Not taken:",
        "  gus.docx: is no notebook; expected STUDENT.ipynb or STUDENT/sums.ipynb",
        "limits alone",
        "Could not run, or not to the end; write to:",
        "  bob: could not run: no file x.ipynb",
        "  cyd: stopped: the kernel died",
    ]
    lines = printed.out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[1:4]] == [
        ["ada", "1.5 of 2"],
        ["bob", "-  could not run: no file x.ipynb"],
        ["cyd", "2 of 2  stopped: the kernel died"],
    ]
    assert lines[4] == "1 graded, 1 stopped, 1 could not run"
    assert str(tmp_path / "marks" / "sums.csv") in lines[5]
    assert lines[7] == "Submissions: limits alone"


def test_the_report_is_a_table(tmp_path, capsys, monkeypatch):
    table = ["student", "sums (of 4)", "total"], [["ada", "4", "4"], ["bob", "could not run", "0"]]
    monkeypatch.setattr(mdtheory.course, "report", lambda course: table)
    monkeypatch.setattr("mdtheory.course.reporting.warnings_of", lambda course: ["LIMITS ALONE"])
    assert main(["course", "report", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "LIMITS ALONE\n"
    assert printed.out.splitlines()[:3] == [
        "student  sums (of 4)    total",
        "ada      4              4",
        "bob      could not run  0",
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CourseError("no course"), "mdtheory: no course\n"),
        (GraderError("no grader"), "mdtheory: no grader\n"),
        (ImportError("install it"), "mdtheory: install it\n"),
        (KeyboardInterrupt(), "mdtheory: interrupted; run the same command again\n"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_one(capsys, monkeypatch, error, message):
    def fail(course):
        raise error

    monkeypatch.setattr(mdtheory.course, "report", fail)
    assert main(["course", "report", "somewhere"]) == 1
    assert capsys.readouterr().err == message


def test_an_interrupted_grading_leaves_no_process_and_runs_again(tmp_path):
    course, inbox = tmp_path / "course", tmp_path / "inbox"
    assert main(["course", "new", str(course)]) == 0
    assert main(["course", "release", str(course), "mirror_maps"]) == 0
    inbox.mkdir()
    (inbox / "ada.py").write_text("import time\ntime.sleep(600)\n", "utf-8")
    command = [sys.executable, "-m", "mdtheory", "course", "grade", str(course), "mirror_maps"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    grading = subprocess.Popen(
        [*command, "--from", str(inbox)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that were started in the background inherit an interrupt that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # The last line before submissions run is the one about isolation.
        while "isolated" not in (line := grading.stderr.readline().lower()):
            assert line, grading.communicate()
        patience = time.monotonic() + 60
        while len(processes := psutil.Process(grading.pid).children(recursive=True)) < 3:
            assert time.monotonic() < patience
            time.sleep(0.2)
        grading.send_signal(signal.SIGINT)
        _, errors = grading.communicate(timeout=60)
    finally:
        grading.kill()
    assert grading.returncode == 1
    assert "interrupted; run the same command again" in errors
    psutil.wait_procs(processes, timeout=20)
    assert not [process for process in processes if process.is_running()]
    (inbox / "ada.py").write_text("", "utf-8")
    assert main(["course", "grade", str(course), "mirror_maps", "--from", str(inbox)]) == 0
    assert (course / "marks" / "mirror_maps.csv").is_file()
