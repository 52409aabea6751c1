"""Hostile submissions get nothing, change nothing and stop nothing, behind each kind of walls."""

import json
import os
import shutil
import textwrap
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from mdtheory.course import Allowance, Limits, grade, report
from tests.classroom import LARGEST, make_course, submit

LIMITS = Limits(notebook=60, cell=15, allowance=Allowance(memory=2 * 2**30, processes=64))


def code(text: str) -> str:
    return textwrap.dedent(text)


def hostile(course: Path, secret: Path) -> dict[str, str]:
    """Name to the source of the cell of `largest`; that of `total` is right."""
    solution = course / "source" / "mirror_maps" / "mirror_maps.ipynb"
    neighbour = course / "submitted" / "ada" / "mirror_maps" / "mirror_maps.ipynb"
    look = """
        import json, pathlib
        def load(path):
            return json.loads(pathlib.Path(path).read_text())
        """
    return {
        # Answers that are not the student's.
        "course": code(f"{code(look)}\ncells = load({str(solution)!r})['cells']\n")
        + code("""
            for cell in cells:
                if 'def largest' in ''.join(cell['source']):
                    exec(''.join(cell['source']))
            """),
        "neighbour": code(f"{code(look)}\ncells = load({str(neighbour)!r})['cells']\n")
        + code("""
            for cell in cells:
                if 'def largest' in ''.join(cell['source']):
                    exec(''.join(cell['source']))
            """),
        "exercises": code("""
            from mdtheory.course import exercises_folder
            text = (exercises_folder() / 'convex' / 'mirror_maps.md').read_text()
            largest = lambda x, scale: scale * x.amax(-1)
            """),
        "second load": code("""
            import importlib.util, sys
            from mdtheory.convex.mirror_maps import Simplex
            spec = sys.modules[Simplex.__module__].__spec__
            again = sys.modules['again'] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(again)
            def largest(x, scale):
                again.Simplex().project(x)
                return scale * x.amax(-1)
            """),
        "subprocess": code("""
            import subprocess, sys
            def largest(x, scale):
                program = ('import torch; from mdtheory.convex.mirror_maps import Simplex;'
                           'Simplex().project(torch.ones(2).double()); print(1)')
                subprocess.run([sys.executable, '-c', program], check=True, capture_output=True)
                return scale * x.amax(-1)
            """),
        "forged": code("""
            import json, os
            import mdtheory.course.kernel as kernel
            def forge():
                for handle in range(3, 30):
                    head = json.dumps({'number': 0, 'dtype': '<f8', 'shape': []}).encode()
                    body = len(head).to_bytes(4, 'big') + head + bytes(8)
                    try:
                        os.write(handle, b'a' + len(body).to_bytes(4, 'big') + body)
                    except OSError:
                        pass
            forge()
            """),
        # Other people's marks.
        "gradebook": code(f"""
            import sqlite3
            base = sqlite3.connect({str(course / "gradebook.db")!r})
            base.execute("update grade set auto_score = 0")
            base.commit()
            """),
        "left behind": code(f"""
            import os, time
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    while True:
                        time.sleep(0.2)
                        try:
                            open({str(secret.parent / "left")!r}, 'a').write('x')
                        except OSError:
                            pass
                os._exit(0)
            """),
        "writes": code(f"""
            import os, pathlib
            for path in ({str(course / "exercises" / "convex" / "mirror_maps.py")!r},
                         {str(secret)!r},
                         os.path.expanduser('~/.ipython/profile_default/startup/x.py'),
                         '/etc/x', '/usr/x', os.path.dirname(os.__file__) + '/x.py'):
                try:
                    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
                    pathlib.Path(path).write_text('raise SystemExit')
                except OSError:
                    pass
            """),
        "kills": code("""
            import os, signal
            for process in {os.getppid(), 1, *range(1, 400)}:
                if process != os.getpid():
                    try:
                        os.kill(process, signal.SIGKILL)
                    except OSError:
                        pass
            """),
        "network": code("""
            import socket
            reached = []
            for host, port in [('127.0.0.1', 22), ('1.1.1.1', 53), ('10.0.0.1', 80)]:
                try:
                    socket.create_connection((host, port), 1)
                    reached.append(host)
                except ConnectionRefusedError:
                    reached.append(host)
                except OSError:
                    pass
            print('reached', reached)
            """),
        "environment": code("""
            import os
            print('SECRET' in ''.join(os.environ), os.environ.get('MDTHEORY_SECRET'))
            print('home', os.listdir(os.path.expanduser('~')))
            """),
        # Too much of everything.
        "forks": code("""
            import os, time
            while True:
                try:
                    if os.fork() == 0:
                        time.sleep(600)
                except OSError:
                    time.sleep(0.1)
            """),
        "memory": code("""
            import os, time
            for _ in range(8):
                if os.fork() == 0:
                    hoard = bytearray(600 * 2**20)
                    for place in range(0, len(hoard), 4096):
                        hoard[place] = 1
                    time.sleep(600)
            time.sleep(600)
            """),
        "files": code("""
            with open('big', 'wb') as file:
                while True:
                    file.write(bytes(2**20))
            """),
        "giant": "import torch\ndef largest(x, scale):\n    return torch.zeros(10**8)",
        "long error": "def largest(x, scale):\n    raise ValueError(200_000_000 * 'x')\n1 / 0",
        "long name": "raise type(30_000_000 * 'x', (Exception,), {})()",
        "display": code("""
            from IPython.display import publish_display_data
            publish_display_data({'text/plain': 'x'}, metadata={'a': 30_000_000 * 'x'})
            publish_display_data({'text/plain': 30_000_000 * 'x'})
            """),
        "printed": "import os\nwhile True:\n    os.write(1, 2**20 * b'x')",
        "deaf": code("""
            import time
            while True:
                try:
                    time.sleep(600)
                except BaseException:
                    pass
            """),
        "garbage": code("""
            import os
            for handle in range(3, 30):
                try:
                    os.write(handle, b'a' + bytes([255] * 400))
                except OSError:
                    pass
            """),
        "deep": code("""
            import os
            for handle in range(3, 30):
                try:
                    body = b'[' * 200_000
                    os.write(handle, b'o' + len(body).to_bytes(4, 'big') + body)
                except OSError:
                    pass
            """),
        # What others read.
        "formula": "raise type('=HYPERLINK(\"http://x\")', (Exception,), {})('@x')",
        "script": code("""
            from IPython.display import HTML, Javascript, Markdown, SVG, display
            display(HTML('<script>alert(1)</script><img src=x onerror=alert(2)>'))
            display(Javascript('alert(3)'))
            display(Markdown('<script>alert(4)</script>'))
            print('<script>alert(5)</script>')
            raise ValueError('<script>alert(6)</script>')
            """),
    }


# Those whose own answers to `largest` are right, and are not to be refused.
HONEST_LARGEST = ("left behind", "writes", "kills", "network", "environment", "display", "deep")


def expected(name: str) -> set[float]:
    """Marks for `largest`: 2 where the cell does no more than what cannot work anyway."""
    return {0.0} if name not in HONEST_LARGEST else {0.0, 2.0}


@pytest.fixture(scope="module", params=["user", "bubblewrap"])
def class_of_hostile(request, tmp_path_factory, missing):
    if request.param == "user" and os.geteuid() != 0:
        pytest.skip("not root")
    program = {"user": "unshare", "bubblewrap": "bwrap"}[request.param]
    if not shutil.which(program):
        missing(f"no {program}")
    folder = tmp_path_factory.mktemp("hostile")
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_text("secret", "utf-8")
    course = make_course(folder / "course")
    submit(course, "ada")
    submit(course, "zoe")
    sources = hostile(course, secret)
    for name, source in sources.items():
        right = f"{LARGEST}\n" if name in HONEST_LARGEST else ""
        submit(course, f"h {name}", largest=right + source)
    strange = {
        "pipe": lambda path: os.mkfifo(path),
        "link": lambda path: path.symlink_to(secret),
        "sparse": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 4 * 2**30),
        "deep": lambda path: path.write_text("[" * 10**6),
        "folder": lambda path: path.mkdir(),
    }
    for name, make in strange.items():
        path = submit(course, f"s {name}")
        path.unlink()
        make(path)
    path = submit(course, "h markdown")
    notebook = nbformat.read(path, as_version=4)
    words = "<script>alert(7)</script> <img src=x onerror=alert(8)> [x](javascript:alert(9))"
    notebook.cells.append(nbformat.v4.new_markdown_cell(words))
    notebook.cells.append(nbformat.v4.new_raw_cell(words))
    nbformat.write(notebook, path)
    before = {
        path: path.read_bytes()
        for part in ("exercises", "source", "release")
        for path in (course / part).rglob("*")
        if path.is_file()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDTHEORY_SECRET", "secret")
        results = grade(course, "mirror_maps", LIMITS, walls=[request.param], jobs=2)
    return course, secret, sources, before, {result.student: result for result in results}


def test_honest_neighbours_get_their_marks(class_of_hostile):
    course, _, _, _, results = class_of_hostile
    for name in ("ada", "zoe"):
        assert results[name].score == 4
    rows = {row[0]: row for row in report(course)[1]}
    assert rows["ada"] == ["ada", "4", "4"]
    assert rows["zoe"] == ["zoe", "4", "4"]


def test_hostile_submissions_get_no_marks_that_are_not_theirs(class_of_hostile):
    _, _, sources, _, results = class_of_hostile
    for name in sources:
        result = results[f"h {name}"]
        found = {verdict.problem: verdict.score for verdict in result.verdicts}
        assert found["largest"] in expected(name), result
        assert found["total"] == 2, result


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("second load", "which is the answer itself"),
        ("subprocess", "CalledProcessError"),
        ("forks", "process"),
        ("memory", "memory"),
        ("giant", "far too large"),
        ("deaf", "could not be interrupted"),
        ("forged", "is not defined"),
    ],
)
def test_the_words_say_what_happened(class_of_hostile, name, words):
    _, _, _, _, results = class_of_hostile
    result = results[f"h {name}"]
    told = result.reason + " ".join(word for v in result.verdicts for word in v.words)
    assert words in told, result


@pytest.mark.parametrize("name", ["pipe", "link", "sparse", "deep", "folder"])
def test_files_that_are_no_notebooks_are_not_run(class_of_hostile, name):
    _, _, _, _, results = class_of_hostile
    assert results[f"s {name}"].status == "could not run"
    assert results[f"s {name}"].verdicts == []


def test_nothing_of_the_course_is_changed(class_of_hostile):
    course, secret, _, before, _ = class_of_hostile
    assert {path: path.read_bytes() for path in before} == before
    assert secret.read_text("utf-8") == "secret"
    assert not [path for path in ("/etc/x", "/usr/x") if Path(path).exists()]
    assert not (course / ".grading").exists() or not list((course / ".grading").iterdir())


def test_nobody_is_left_behind(class_of_hostile):
    _, secret, _, _, _ = class_of_hostile
    assert not (secret.parent / "left").exists()
    left = [c for c in psutil.Process().children(recursive=True) if "worker" in str(c.cmdline())]
    assert left == []
    patience = time.monotonic() + 20
    while time.monotonic() < patience:
        # Asked for at once: others' processes come and go meanwhile.
        found = [p.info["uids"] for p in psutil.process_iter(["uids"])]
        users = {uids.real for uids in found if uids and 20_000 <= uids.real < 59_000}
        if not users:
            return
        time.sleep(0.5)
    raise AssertionError(users)


def page_of(course: Path, student: str) -> str:
    return (course / "feedback" / student / "mirror_maps" / "mirror_maps.html").read_text("utf-8")


def test_a_page_holds_nothing_that_runs(class_of_hostile):
    course, _, _, _, _ = class_of_hostile
    for name in ("ada", "h script", "h markdown"):
        page = page_of(course, name)
        assert "<script" not in page
        body = page.split("</head>")[1]
        assert "onerror=alert" not in body.replace("&lt;img src=x onerror=alert", "")
        assert 'href="javascript:' not in body
        assert "Content-Security-Policy" in page
        assert "script-src" not in page  # which would allow some


def test_outputs_on_pages_are_bounded(class_of_hostile):
    course, _, _, _, results = class_of_hostile
    for student in results:
        assert len(page_of(course, student)) < 3_000_000, student


def test_the_network_and_the_environment_are_empty(class_of_hostile):
    course, _, _, _, _ = class_of_hostile
    assert "reached []" in page_of(course, "h network").replace("&#39;", "'")
    page = page_of(course, "h environment")
    assert "False None" in page
    assert "home []" in page


def test_no_cell_of_the_table_is_a_formula(class_of_hostile):
    import csv

    course, _, _, _, _ = class_of_hostile
    with open(course / "marks" / "mirror_maps.csv", encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            for cell in row:
                assert not cell.startswith(("=", "+", "@")), row
                assert "\n" not in cell


def test_the_record_says_which_walls_stood(class_of_hostile):
    course, _, _, _, _ = class_of_hostile
    stored = json.loads((course / "marks" / "mirror_maps" / "ada.json").read_text("utf-8"))
    assert stored["walls"] in ("user", "bubblewrap")
