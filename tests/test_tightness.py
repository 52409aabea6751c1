"""Hardest instances of bounds: the search, its records, and what pages say about them."""

import importlib
import pkgutil
import re

import pytest
import torch

import tools.tight
from tools import ledger
from tools.project import ROOT, source_of
from tools.tight import Hardest, Problem, climb, ratios, recorded, verdict

PARTS = [module.name for module in pkgutil.iter_modules(tools.tight.__path__)]
PROBLEMS = {
    problem.label: problem
    for part in PARTS
    for problem in importlib.import_module(f"tools.tight.{part}").PROBLEMS
}
RECORDED = recorded(ROOT)
PAGE_OF = {statement.label: statement.page for statement in ledger.statements(ROOT)}


def product(v):
    """2 |a b| <= a^2 + b^2, attained where both agree."""
    return 2 * (v[:, 0] * v[:, 1]).abs(), (v**2).sum(-1)


def seeded():
    return torch.Generator().manual_seed(3)


def test_the_climb_finds_what_random_vectors_do_not():
    def distant(v):
        """A ratio of 1 at (5, -5, 5) and near 0 elsewhere."""
        goal = torch.tensor([5.0, -5.0, 5.0], dtype=v.dtype)
        return (-((v - goal) ** 2).sum(-1) / 2).exp(), torch.ones(len(v), dtype=v.dtype)

    found = climb(Problem("lem-toy", 3, distant), seeded(), steps=600)
    assert found.random < 0.2
    assert found.hardest > 0.999
    assert found.vector == pytest.approx([5.0, -5.0, 5.0], abs=0.05)
    again = climb(Problem("lem-toy", 3, distant), seeded(), steps=600)
    assert again == found


def test_a_known_instance_is_where_the_climb_begins():
    problem = Problem("lem-toy", 2, product, (1.0, 1.0))
    assert climb(problem, seeded(), steps=0).hardest == 1


def test_instances_that_do_not_count_are_left_out():
    def sides(v):
        return v[:, 0], torch.where(v[:, 0] > 0, v[:, 0].abs(), -1.0)

    drawn = torch.tensor([[-2.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    assert ratios(Problem("lem-toy", 2, lambda v: (v[:, 0].clamp(max=-3), -1 + 0 * v[:, 0])),
                  drawn).tolist() == [-torch.inf, -torch.inf]  # fmt: skip
    assert ratios(Problem("lem-toy", 2, sides), drawn).tolist() == [-torch.inf, 1.0]


def test_a_bound_that_breaks_stops_the_search_and_shows_where():
    wrong = Problem("lem-toy", 2, lambda v: (product(v)[0], 0.9 * product(v)[1]))
    with pytest.raises(ArithmeticError, match=r"^lem-toy: .* at \["):
        climb(wrong, seeded())


@pytest.mark.parametrize(
    ("ratio", "word"),
    [(1.0, "sharp"), (0.5, "within 2"), (0.34, "within 2.9"), (0.2, "order only")],
)
def test_verdicts(ratio, word):
    assert verdict(ratio) == word


def test_each_record_is_of_its_registry_and_of_the_book():
    assert set(RECORDED) == set(PROBLEMS)
    assert set(RECORDED) <= set(PAGE_OF)


@pytest.mark.parametrize("label", PROBLEMS)
def test_the_recorded_instance_has_the_recorded_ratio(label):
    found, problem = RECORDED[label], PROBLEMS[label]
    assert len(found.vector) == problem.size
    vector = torch.tensor([found.vector], dtype=torch.float64)
    # Equal to the record's six digits, with room for another processor's rounding.
    assert ratios(problem, vector).item() == pytest.approx(found.hardest, rel=1e-3)
    assert found.random <= found.hardest + 1e-9


LOOSE = [label for label, found in RECORDED.items() if verdict(found.hardest) == "order only"]


@pytest.mark.parametrize("label", LOOSE)
def test_the_page_names_a_bound_that_is_an_order_only(label):
    text = source_of(ROOT, PAGE_OF[label])
    lines = [line for line in text.splitlines() if re.search(r"orders? only", line)]
    assert any(label in line for line in lines), f"{PAGE_OF[label]} does not say it of {label}"


def test_the_ledger_shows_random_and_hardest():
    row = next(line for line in ledger.page(ROOT).splitlines() if "`thm-sea-ftrl`" in line)
    words = row.replace("\N{NO-BREAK SPACE}", " ")
    found: Hardest = RECORDED["thm-sea-ftrl"]
    assert f"random {found.random:.2g}, hardest {found.hardest:.2g}" in words
