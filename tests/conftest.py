"""What several test files share: the checkout and its built site."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def site(root: Path) -> Path:
    """The built site, brought up to date first by the same call as `make book`."""
    from tools.build import SITE, build
    from tools.project import locked

    with locked(root):
        build(root)
    return root / SITE


@pytest.fixture(scope="session")
def missing():
    """Skip for a missing program, but fail in CI, where nothing may be skipped."""

    def report(reason: str) -> None:
        if os.environ.get("CI"):
            pytest.fail(f"{reason} (in CI this is a failure)")
        pytest.skip(reason)

    return report


def pytest_collection_modifyitems(items):
    """Names of tests must be the same in every worker, so no address of an object is in them."""
    moving = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if moving:
        raise pytest.UsageError(f"give these parameters ids that do not move: {moving}")


def pytest_terminal_summary(terminalreporter):
    """The table of assignments: what their graders made of right and wrong answers."""
    rows = [
        value
        for status in ("passed", "failed")
        for report in terminalreporter.stats.get(status, [])
        for name, value in report.user_properties
        if name == "answers"
    ]
    if rows:
        header = ["assignment", "problems", "right answers accepted", "wrong answers caught"]
        table = [header, *(list(map(str, row)) for row in sorted(rows))]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        terminalreporter.section("assignments, over problems and seeds")
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            terminalreporter.write_line("  ".join(cells).rstrip())


@pytest.fixture(scope="session")
def elsewhere() -> str:
    """A device other than the CPU for fake tensors, which have no values.

    It is "cuda" where PyTorch was built for it. A CPU-only build cannot even index a fake tensor
    on "cuda"; there a stand-in takes its place, which differs in nothing but its name.
    """
    if torch.backends.cuda.is_built():
        return "cuda"
    from torch.utils import backend_registration

    backend_registration._setup_privateuseone_for_python_backend("elsewhere")
    return "elsewhere"
