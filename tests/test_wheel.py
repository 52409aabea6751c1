"""The wheel works outside the checkout, its data included."""

import os
import subprocess
import sys
import zipfile

import pytest

from tools.project import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("mdtheory-*.whl")
    return path


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Run Python outside the checkout with the wheel's copy of the package before all others."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, wheel], check=True, capture_output=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run_it(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(target)}
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout.replace(str(target), "TARGET")

    return run_it


def test_the_package_comes_from_the_wheel(run):
    assert run("-c", "import mdtheory; print(mdtheory.__file__)").startswith("TARGET")


def test_every_module_is_there_and_imports(run):
    names = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "mdtheory").rglob("*.py")
        if path.name != "__main__.py"
    )
    run("-c", "import importlib, sys\nfor n in sys.argv[1:]: importlib.import_module(n)", *names)


def test_data_and_assignments_are_in_the_wheel(wheel):
    content = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"mdtheory/data/{p.name}" for p in (ROOT / "mdtheory" / "data").iterdir()
              if p.is_file()}  # fmt: skip
    wanted |= {
        f"mdtheory/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "exercises").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted
    assert wanted <= content
    assert not [name for name in content if name.startswith(("tests/", "tools/", "book/"))]


def test_the_command_line_works(run):
    assert "course" in run("-m", "mdtheory", "--help")
    assert run("-m", "mdtheory", "--version").startswith("mdtheory ")


def test_a_course_can_be_made_without_the_checkout(run, tmp_path):
    run("-m", "mdtheory", "course", "new", str(tmp_path / "course"))
    assert list((tmp_path / "course").rglob("mirror_maps.*"))
