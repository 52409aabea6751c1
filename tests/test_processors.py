"""The settings under which the numerical tests run as on other processors."""

import datetime
import itertools
import re
import subprocess

import pytest

from tools import processors
from tools.project import ROOT


def test_every_setting_has_its_day():
    first = datetime.date(2026, 1, 1)
    days = [processors.todays(first + datetime.timedelta(k)) for k in range(10)]
    assert {*days} == {*processors.SETTINGS} - {"own"}
    assert all(one != other for one, other in itertools.pairwise(days))


def test_a_setting_replaces_the_variables_of_the_caller(monkeypatch, tmp_path):
    monkeypatch.setenv("MKL_CBWR", "AVX")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert "MKL_CBWR" not in processors.environment("own", tmp_path)
    plain = processors.environment("plain", tmp_path)
    assert plain["MKL_CBWR"] == "COMPATIBLE"
    assert "OPENBLAS_CORETYPE" not in plain
    assert processors.environment("sse4", tmp_path)["LD_PRELOAD"] == str(tmp_path)


def test_what_runs_compares_numbers():
    files = processors.numerical(ROOT)
    assert "tests/convex/test_online_learning_descent.py" in files
    assert "tests/test_checks.py" in files
    assert not any(re.search("refusals|devices", name) for name in files)
    assert all((ROOT / name).exists() for name in files)


def test_the_same_setting_gives_the_same_numbers():
    own = processors.environment("own", None)
    found = processors.changes(own)
    assert {*found} == {"MKL", "PyTorch", "NumPy"}
    assert processors.changes(own) == found


def test_an_unknown_setting_is_refused(capsys):
    with pytest.raises(SystemExit):
        processors.main(["pentium"])
    assert "pentium: expected one of own" in capsys.readouterr().err


def test_settings_that_change_nothing_are_not_run_again(monkeypatch, capsys):
    runs = []

    def run(command, **options):
        runs.append(options["env"])
        return subprocess.CompletedProcess(command, 1 if "OPENBLAS_CORETYPE" in runs[-1] else 0)

    def changes(variables):
        return {"NumPy": variables.get("OPENBLAS_CORETYPE", "own")}

    monkeypatch.setattr(processors, "changes", changes)
    monkeypatch.setattr(processors, "preloaded", lambda folder: None)
    monkeypatch.setattr(processors.subprocess, "run", run)
    assert processors.main([]) == 1
    assert len(runs) == 2  # the machine's own, and the one that differs
    said = capsys.readouterr().out
    assert "nehalem  other numbers from NumPy, FAILED (1)" in said
    assert "sse4     the machine's own numbers, not run again" in said
    assert processors.main(["sse4"]) == 0
    assert len(runs) == 3
