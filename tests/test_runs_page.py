"""What a cell hands to its page: numbers for the prose, checks for the ledger."""

import numpy as np
import pytest
import torch

from mdtheory import runs
from mdtheory.runs import page

NAN = float("nan")


@pytest.fixture
def shown(monkeypatch):
    """What the code under test would put into the running cell, as (data, metadata)."""
    outputs = []
    monkeypatch.setattr(page, "show", lambda data, metadata, **_: outputs.append((data, metadata)))
    return outputs


class Cells:
    """A notebook as the code under test sees it: a counter of cells and places of outputs."""

    def __init__(self):
        self.execution_count, self.outputs = 1, {}

    def show(self, data, metadata=None, *, place=None, again=False):
        assert again == (place in self.outputs)
        self.outputs[place] = (data, metadata)


@pytest.fixture
def cells(monkeypatch):
    notebook = Cells()
    monkeypatch.setattr(page, "running_shell", lambda: notebook)
    monkeypatch.setattr(page, "show", notebook.show)
    return notebook


# ------------------------------------------------------------------------------------------- glue


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (3, "3"),
        ("12 %", "'12 %'"),
        (torch.tensor([[2.5]]), "2.5"),
        (np.float64(0.5), "0.5"),
    ],
)
def test_glue_hands_a_number_to_the_page(shown, value, text):
    runs.glue("share", value)
    ((data, metadata),) = shown
    assert data == {"application/papermill.record/text/plain": text}
    assert metadata["scrapbook"] == {
        "name": "share",
        "mime_prefix": "application/papermill.record/",
    }


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (1 / 3, {}, "0.333"),
        (-1 / 3, {"digits": 2}, "−0.33"),
        (7.5e10, {}, "7.5 × 10¹⁰"),
        ((0.5212, 0.4834, 0.5671), {}, "0.521 [0.483, 0.567]"),
        (tuple(map(torch.tensor, (1.0, 0.9, 1.2))), {}, "1.00 [0.90, 1.20]"),
    ],
)
def test_glue_sets_numbers_and_keeps_their_digits(shown, value, options, text):
    runs.glue("share", value, **options)
    ((data, metadata),) = shown
    assert metadata["mdtheory_text"] == text
    if isinstance(value, float):
        assert data == {"application/papermill.record/text/plain": repr(value)}


def test_glue_wants_one_number():
    with pytest.raises(ValueError, match=r"^value: expected one entry, got shape \(2,\)"):
        runs.glue("share", torch.zeros(2))


# ----------------------------------------------------------------------------------------- checks


def test_a_bound_that_holds_reports_instances_and_worst_ratio(shown):
    worst = runs.check_bound("thm-x", torch.tensor([[0.5, 1.0], [3.0, 0.1]]), torch.tensor(4.0))
    assert worst == 0.75
    ((data, metadata),) = shown
    [entry] = metadata["mdtheory_check"]
    assert entry.pop("median") == 0.125
    assert entry.pop("tolerance") == 1e-9
    assert entry == {"label": "thm-x", "kind": "bound", "instances": 4, "worst": 0.75}
    assert data["text/plain"] == "thm-x: 4 instances, worst ratio 0.75"
    line = '<summary><code class="statement">thm-x</code>: 4 instances, worst ratio 0.75</summary>'
    assert line in data["text/html"]
    assert data["text/html"].startswith('<details class="check">')


def test_checks_of_one_statement_in_one_cell_share_a_line(cells):
    for size in (1, 2):
        runs.check_bound("thm-x", torch.full((600,), size / 4), torch.tensor(1.0))
        runs.check_identity("prop-y", torch.ones(size), torch.ones(size))
    runs.check_identity("thm-x", torch.ones(1).double(), torch.ones(1).double() * (1 + 3e-13))
    (theorem, figures), (proposition, _) = cells.outputs.values()
    line = "thm-x: 1,201 instances, worst ratio 0.5, identities off by at most 3.0 × 10⁻¹³"
    assert theorem["text/plain"] == line
    assert proposition["text/plain"] == "prop-y: 3 instances, exact"
    worst = [entry["worst"] for entry in figures["mdtheory_check"]]
    assert worst == pytest.approx([0.25, 0.5, 3e-13], rel=1e-3)
    assert theorem["text/html"].count("<tr>") == 1 + 3
    assert theorem["text/html"].count("<summary>") == 1


def test_the_next_cell_begins_its_own_line(cells):
    runs.check_bound("thm-x", torch.tensor(1.0), torch.tensor(2.0))
    cells.execution_count += 1
    runs.check_bound("thm-x", torch.tensor(1.0), torch.tensor(4.0))
    first, second = (data["text/plain"] for data, _ in cells.outputs.values())
    assert first == "thm-x: 1 instance, worst ratio 0.5"
    assert second == "thm-x: 1 instance, worst ratio 0.25"


def test_a_check_that_fails_leaves_the_line_as_it_was(cells):
    runs.check_bound("thm-x", torch.tensor(1.0), torch.tensor(2.0))
    with pytest.raises(AssertionError):
        runs.check_bound("thm-x", torch.tensor(3.0), torch.tensor(2.0))
    [(data, _)] = cells.outputs.values()
    assert data["text/plain"] == "thm-x: 1 instance, worst ratio 0.5"


def test_outside_a_notebook_nothing_is_remembered(shown):
    for _ in range(2):
        runs.check_bound("thm-x", torch.tensor(1.0), torch.tensor(2.0))
    assert [len(metadata["mdtheory_check"]) for _, metadata in shown] == [1, 1]


@pytest.mark.parametrize("left", [[0.0, 1.0001], [NAN, 0.0], [0.0, float("inf")]])
def test_a_broken_bound_fails_and_names_the_theorem(shown, left):
    with pytest.raises(AssertionError, match=r"^thm-x: broken"):
        runs.check_bound("thm-x", torch.tensor(left), torch.ones(2))
    assert not shown


def test_a_broken_bound_quotes_the_worst_instance():
    with pytest.raises(AssertionError, match=r"7\.0 > 1\.0"):
        runs.check_bound("thm-x", torch.tensor([2.0, 7.0, 0.0]), torch.ones(3))


def test_the_tolerance_of_a_bound_is_relative_with_a_floor():
    runs.check_bound("thm-x", torch.tensor(1e6 + 9e-4, dtype=torch.float64), torch.tensor(1e6))
    runs.check_bound("thm-x", torch.tensor(9e-10, dtype=torch.float64), torch.tensor(0.0))
    with pytest.raises(AssertionError):
        runs.check_bound("thm-x", torch.tensor(2e-9, dtype=torch.float64), torch.tensor(0.0))


def test_negative_bounds_have_no_ratio_but_are_checked(shown):
    assert runs.check_bound("thm-x", torch.tensor(-2.0), torch.tensor(-1.0)) != 0
    with pytest.raises(AssertionError):
        runs.check_bound("thm-x", torch.tensor(-1.0), torch.tensor(-2.0))


@pytest.mark.parametrize("check", [runs.check_bound, runs.check_identity])
def test_a_check_needs_instances_that_pair(check):
    with pytest.raises(ValueError, match="at least one instance"):
        check("thm-x", torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="broadcasts"):
        check("thm-x", torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize("check", [runs.check_bound, runs.check_identity])
@pytest.mark.parametrize(("left", "right"), [(NAN, 1.0), (1.0, NAN), (NAN, NAN)])
def test_a_nan_never_passes(check, left, right):
    with pytest.raises((AssertionError, ValueError)):
        check("thm-x", torch.tensor([0.0, left]), torch.tensor([0.0, right]))


def test_an_identity_that_holds_reports_its_largest_difference(shown):
    left = torch.tensor([1.0, 2000.0], dtype=torch.float64)
    worst = runs.check_identity("prop-x", left, left * (1 + 5e-13))
    assert worst == pytest.approx(5e-13, rel=1e-3)
    assert shown[0][1]["mdtheory_check"][0]["kind"] == "identity"


@pytest.mark.parametrize("right", [1 + 1e-11, NAN, -1.0, float("inf")])
def test_a_broken_identity_fails_and_names_the_statement(shown, right):
    with pytest.raises((AssertionError, ValueError), match=r"^(prop-x: broken|right)"):
        runs.check_identity(
            "prop-x", torch.ones(1).double(), torch.tensor([right], dtype=torch.float64)
        )
    assert not shown


def test_checks_take_tensors_that_carry_gradients():
    left = torch.ones(2, requires_grad=True)
    runs.check_bound("thm-x", left, 2 * left)


# ------------------------------------------------------------------------------------------- show


def test_outside_a_notebook_nothing_is_shown(capsys):
    runs.show({"text/plain": "hello"})
    assert capsys.readouterr().out == ""


def test_in_a_notebook_the_bundle_is_displayed(monkeypatch):
    ipython = pytest.importorskip("IPython")
    import IPython.display

    calls = []
    monkeypatch.setattr(ipython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: calls.append((a, k)))
    runs.show({"text/plain": "hello"}, {"name": "x"})
    assert calls == [(({"text/plain": "hello"},), {"raw": True, "metadata": {"name": "x"}})]


def test_an_output_can_be_replaced_at_its_place(monkeypatch):
    ipython = pytest.importorskip("IPython")
    import IPython.display

    calls = []
    monkeypatch.setattr(ipython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: calls.append(k))
    runs.show({}, place="here", again=True)
    assert calls == [{"raw": True, "metadata": None, "display_id": "here", "update": True}]
