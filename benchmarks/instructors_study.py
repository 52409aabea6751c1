"""Takes the pictures of the page for instructors: real screens of a real class, in Chromium.

    python benchmarks/instructors_study.py book/_static/instructors

The class is the assignment's own right and wrong answers under invented names.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from mdtheory.cli import main as mdtheory

ROOT = Path(__file__).resolve().parents[1]
PART, NAME = "convex", "mirror_maps"
STUDENTS = ("Ada", "Bela", "Chidi", "Dunja", "Emil", "Farah", "Goran", "Hana")
SIZE = {"width": 1100, "height": 760}


def make_class(folder: Path) -> Path:
    """A graded class."""
    course, inbox = folder / "my-course", folder / "inbox"
    mdtheory(["course", "new", str(course)])
    mdtheory(["course", "release", str(course), NAME])
    inbox.mkdir()
    answers = sorted((ROOT / "tests" / "answers" / PART / NAME).glob("*.py"))
    for number, student in enumerate(STUDENTS):
        shutil.copyfile(answers[number % len(answers)], inbox / f"{student}.py")
    mdtheory(["course", "grade", str(course), NAME, "--from", str(inbox)])
    mdtheory(["course", "report", str(course)])
    mdtheory(["course", "statistics", str(course), NAME])
    return course


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def take(course: Path, pictures: Path) -> None:
    """Open the screens one after the other."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(course.parent / "jupyter")}
    options = ["--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", *options],
        cwd=course,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        with sync_playwright() as play:
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport=SIZE)
            page.set_default_timeout(120_000)
            page.goto(f"{address}/lab/tree/release/{NAME}/{NAME}.ipynb")
            page.wait_for_selector(".jp-Notebook .jp-Cell")
            time.sleep(5)
            news = page.get_by_role("button", name="No", exact=True)
            if news.count():
                news.first.click()
            time.sleep(1)
            page.screenshot(path=pictures / "notebook.png")
            page.goto(f"{address}/formgrader/gradebook/{NAME}/{NAME}")
            page.wait_for_selector("table tbody tr")
            page.get_by_text("Loading, please wait").wait_for(state="detached")
            time.sleep(2)
            page.screenshot(path=pictures / "formgrader.png")
            page.goto((course / "feedback" / STUDENTS[3] / NAME / f"{NAME}.html").as_uri())
            outputs = page.locator(".output_stdout, .output_stream").filter(has_text=" points: ")
            outputs.first.scroll_into_view_if_needed()
            page.screenshot(path=pictures / "feedback.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()
    shutil.copyfile(course / "marks" / f"{NAME}-statistics.png", pictures / "statistics.png")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        take(make_class(Path(scratch)), target)
