"""Requirements are said once, and setting up survives being killed."""

import os
import re
import subprocess
import tomllib

import pytest
import yaml

from tools.project import ROOT

CONDA_NAMES = {"pytorch": "torch"}
REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)\s*(.*)")


def split(requirement: str) -> tuple[str, str]:
    name, rest = REQUIREMENT.fullmatch(requirement).groups()
    return CONDA_NAMES.get(name, name), rest


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))


def requirements(project: dict) -> dict[str, str]:
    extras = project["optional-dependencies"]
    everything = [*project["dependencies"], *(item for extra in extras.values() for item in extra)]
    return dict(split(item) for item in everything if not item.startswith("mdtheory["))


def test_conda_environment_agrees_with_pyproject(project, environment):
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    stated = dict(split(item) for item in conda)
    python = stated.pop("python")
    stated.pop("pip")
    assert python.startswith(project["requires-python"])
    known = requirements(project)
    assert {name: known.get(name) for name in stated} == stated


def test_conda_environment_installs_all_that_readers_need(environment):
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-e .[test]"]  # notebooks, book, course and test, see pyproject.toml


def test_every_requirement_is_pinned(project):
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    canonical = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for name in requirements(project)}
    assert wanted <= canonical
    assert pins["jupyter-book"].startswith("1.")


def test_versions_and_licence_agree(project):
    import mdtheory

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert project["version"] == mdtheory.__version__ == str(citation["version"])
    assert project["license"] == citation["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("BSD 3-Clause License")


FAKE_PYTHON = """#!/bin/bash
echo "$(basename "$0") $*" >> log
if [[ "$1 $2" == "-m venv" ]]; then
  mkdir -p "$3/bin"
  [[ -e venv-dies ]] && exit 1
  cp "$0" "$3/bin/python"
elif [[ -e install-dies && "$*" == *-e* ]]; then
  exit 1
fi
exit 0
"""


@pytest.fixture
def empty_machine(tmp_path):
    """The Makefile beside a Python that installs nothing, and dies when told to."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"))
    (tmp_path / "fake").write_text(FAKE_PYTHON)
    (tmp_path / "fake").chmod(0o755)

    def make(*targets: str) -> tuple[int, list[str]]:
        (tmp_path / "log").write_text("")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        command = ["make", "-s", f"PYTHON={tmp_path / 'fake'}", *targets]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        return result.returncode, (tmp_path / "log").read_text().splitlines()

    return tmp_path, make


def installs(log: list[str]) -> int:
    return sum("pip install" in line for line in log)


def test_setting_up_happens_once(empty_machine):
    folder, make = empty_machine
    code, log = make("setup")
    assert code == 0
    assert installs(log) == 2
    assert "torch==" in log[1]
    assert make("setup") == (0, [])
    (folder / "constraints.txt").write_text("torch==0\n")
    os.utime(folder / "constraints.txt", (2**31, 2**31))
    code, log = make("setup")
    assert code == 0
    assert "torch==0" in log[0]


def test_the_newest_versions_are_installed_afresh_and_pinned(empty_machine):
    folder, make = empty_machine
    make("setup")
    code, log = make("newest")
    assert code == 0
    assert log[0] == "fake -m venv .venv"
    first, second, freeze = log[1], log[2], log[-1]
    assert " torch -c constraints.txt" in first
    assert "-e .[dev]" in second
    assert freeze == "python -m pip freeze --exclude-editable"
    assert "==" not in (folder / "constraints.txt").read_text("utf-8")
    assert make("setup") == (0, [])


def test_the_workflow_runs_what_the_repository_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    # YAML reads the key `on` as a truth value.
    triggers = workflow.get("on", workflow.get(True))
    assert {"push", "schedule"} <= set(triggers)
    [job] = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=True)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("fault", ["venv-dies", "install-dies"])
def test_a_killed_set_up_is_taken_up_again(empty_machine, fault):
    folder, make = empty_machine
    (folder / fault).touch()
    code, _ = make("setup")
    assert code != 0
    assert not (folder / ".venv" / ".installed").exists()
    (folder / fault).unlink()
    code, log = make("setup")
    assert code == 0
    assert log[0] == "fake -m venv .venv"  # from the beginning: half an environment is none
    assert installs(log) == 2
    assert make("setup") == (0, [])
