"""Checks of arguments: what passes, what is refused, and what the message says."""

import math
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdtheory import checks

NAN, INF = float("nan"), float("inf")


# ------------------------------------------------------------------------------ shapes and kinds


@pytest.mark.parametrize("shape", [(1,), (3,), (0, 3), (2, 0, 3), (4, 2, 3)])
def test_vectors_with_any_batch_pass_unchanged(shape):
    value = torch.zeros(shape)
    assert checks.require_tensor("point", value) is value


@pytest.mark.parametrize("shape", [(1, 1), (0, 2, 2), (3, 2, 2)])
def test_square_matrices_pass_unchanged(shape):
    value = torch.zeros(shape)
    assert checks.require_tensor("point", value, 2) is value


@pytest.mark.parametrize(
    ("value", "event_dims", "error", "words"),
    [
        ([0.5, 0.5], 1, TypeError, "torch.Tensor, got list"),
        (0.5, 1, TypeError, "torch.Tensor, got float"),
        (torch.tensor([1, 0]), 1, TypeError, "floating-point tensor, got torch.int64"),
        (torch.tensor([1j]), 1, TypeError, "floating-point tensor, got torch.complex64"),
        (torch.tensor(1.0), 1, ValueError, r"\(\.\.\., d\) with d >= 1, got \(\)"),
        (torch.zeros(3, 0), 1, ValueError, r"got \(3, 0\)"),
        (torch.zeros(3), 2, ValueError, r"\(\.\.\., d, d\) with d >= 1, got \(3,\)"),
        (torch.zeros(2, 0, 0), 2, ValueError, r"got \(2, 0, 0\)"),
        (torch.zeros(5, 2, 3), 2, ValueError, "square matrices"),
    ],
)
def test_what_is_no_batch_of_points_is_refused(value, event_dims, error, words):
    with pytest.raises(error, match=f"^point: .*{words}"):
        checks.require_tensor("point", value, event_dims)


def test_two_tensors_of_one_kind_pass():
    checks.require_same_kind("dual", torch.zeros(2), "point", torch.zeros(3))


def test_a_dtype_is_not_cast_silently():
    with pytest.raises(TypeError, match=r"^dual: expected torch.float32 like point.*float64"):
        checks.require_same_kind("dual", torch.zeros(2).double(), "point", torch.zeros(2))


def test_nothing_is_moved_silently():
    with pytest.raises(ValueError, match=r"^dual: expected device cpu like point, got meta"):
        checks.require_same_kind("dual", torch.zeros(2, device="meta"), "point", torch.zeros(2))


def test_shape_is_exact():
    checks.require_shape("step_size", torch.zeros(2, 3), (2, 3))
    with pytest.raises(ValueError, match=r"^step_size: expected shape \(3, 2\), got \(2, 3\)"):
        checks.require_shape("step_size", torch.zeros(2, 3), (3, 2))


def test_shapes_that_broadcast():
    checks.require_broadcastable("magnet", torch.zeros(3), "point", torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"^magnet: .*point \(2, 3\), got \(2,\)"):
        checks.require_broadcastable("magnet", torch.zeros(2), "point", torch.zeros(2, 3))


# ----------------------------------------------------------------------------------------- values


def test_values_message_quotes_the_first_offender():
    value = torch.tensor([[0.5, -2.0], [-3.0, 1.0]])
    with pytest.raises(ValueError, match=r"^loss: expected numbers >= 0, got -2\.0$"):
        checks.require_values("loss", value, value >= 0, "numbers >= 0")


def test_values_of_a_whole_batch_quote_nothing():
    value = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"^loss: expected rows$"):
        checks.require_values("loss", value, torch.tensor([True, False]), "rows")


def test_values_that_hold_pass_also_where_there_are_none():
    checks.require_values("loss", torch.ones(3), torch.ones(3) > 0, "numbers > 0")
    checks.require_values("loss", torch.ones(0, 3), torch.ones(0, 3) > 2, "numbers > 2")


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_finite_refuses_nan_and_infinity(bad):
    checks.require_finite("gradient", torch.tensor([1.0, -1e300], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"^gradient: expected finite values, got"):
        checks.require_finite("gradient", torch.tensor([1.0, bad]))


def test_values_are_not_read_under_fake_tensors():
    with FakeTensorMode():
        value = torch.empty(3, device="cuda")
        assert not checks.values_known(value)
        checks.require_finite("gradient", value)
        checks.require_simplex("point", value)
    assert checks.values_known(torch.zeros(3))


def test_values_are_not_read_while_a_function_is_compiled(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not checks.values_known(torch.zeros(3))
    checks.require_finite("gradient", torch.tensor([NAN]))


class _PretendCuda:
    """Stands for a tensor on a GPU, which this machine may not have."""

    is_cuda = True


@pytest.mark.parametrize("capturing", [True, False])
def test_values_are_not_read_while_a_graph_is_captured(monkeypatch, capturing):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    assert checks.values_known(_PretendCuda()) is not capturing


# ---------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("value", [0, 1, 2.5, 1e300])
def test_a_number_comes_back_as_float(value):
    got = checks.require_number("step_size", value, 0.0)
    assert isinstance(got, float)
    assert got == value


@pytest.mark.parametrize(
    ("value", "error"),
    [("1", TypeError), (True, TypeError), (torch.tensor(1.0), TypeError), (None, TypeError),
     (NAN, ValueError), (INF, ValueError), (-INF, ValueError), (-1e-9, ValueError)],
)  # fmt: skip
def test_what_is_no_nonnegative_number_is_refused(value, error):
    with pytest.raises(error, match=r"^step_size: expected a"):
        checks.require_number("step_size", value, 0.0)


def test_a_strict_minimum_is_excluded():
    assert checks.require_number("radius", 0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match=r"^radius: expected a finite number > 0, got 0\.0"):
        checks.require_number("radius", 0.0, 0.0, strict=True)


def test_any_finite_number_passes_without_a_minimum():
    assert checks.require_number("shift", -1e300) == -1e300


@pytest.mark.parametrize("value", [1, 7])
def test_a_count_passes(value):
    assert checks.require_count("rounds", value) == value


@pytest.mark.parametrize(
    ("value", "error"),
    [(1.0, TypeError), (True, TypeError), ("3", TypeError), (0, ValueError), (-2, ValueError)],
)
def test_what_is_no_count_is_refused(value, error):
    with pytest.raises(error, match=r"^rounds: expected a whole number"):
        checks.require_count("rounds", value)


# -------------------------------------------------------------------------------------- simplexes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 2, 1000])
def test_simplex_points_pass_with_the_rounding_of_their_dtype(dtype, d):
    point = torch.rand(5, d, dtype=dtype, generator=torch.Generator().manual_seed(0))
    point = point / point.sum(-1, keepdim=True)
    checks.require_simplex("point", point)
    checks.require_simplex("point", point * (1 + checks.sum_tolerance(point) / 2))
    with pytest.raises(ValueError, match=r"^point: expected probabilities that sum to 1"):
        checks.require_simplex("point", point * (1 + 2 * checks.sum_tolerance(point)))


def test_tolerance_of_sums_is_dimension_times_root_of_precision():
    eps = torch.finfo(torch.float32).eps
    assert checks.sum_tolerance(torch.zeros(2, 7)) == pytest.approx(7 * math.sqrt(eps), rel=1e-12)


def test_a_zero_is_a_probability_unless_positive_ones_are_asked_for():
    corner = torch.tensor([1.0, 0.0])
    checks.require_simplex("point", corner)
    with pytest.raises(ValueError, match=r"^point: expected positive probabilities, got 0\.0"):
        checks.require_simplex("point", corner, positive=True)


@pytest.mark.parametrize(
    "point", [[1.5, -0.5], [NAN, 1.0], [INF, 0.0], [0.5, 0.4], [0.0, 0.0], [[0.5, 0.5], [0.9, 0.2]]]
)
def test_what_is_no_simplex_point_is_refused(point):
    with pytest.raises(ValueError, match=r"^point: expected"):
        checks.require_simplex("point", torch.tensor(point))


def test_the_message_quotes_the_worst_sum():
    with pytest.raises(ValueError, match=r"got a sum of 0\.25"):
        checks.require_simplex("point", torch.tensor([[0.5, 0.375], [0.125, 0.125]]))


def test_an_empty_batch_of_simplex_points_passes():
    checks.require_simplex("point", torch.zeros(0, 3))


# ----------------------------------------------------------------------------------------- extras


def test_an_installed_extra_is_imported():
    assert checks.require_extra("math", "notebooks") is math


def test_a_missing_extra_says_what_to_install():
    with pytest.raises(ImportError, match=r"pip install 'mdtheory\[notebooks\]'"):
        checks.require_extra("no_such_module_anywhere", "notebooks")


def test_an_error_inside_an_extra_is_not_mistaken_for_its_absence(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere") as raised:
        checks.require_extra("broken_extra", "notebooks")
    assert "mdtheory[" not in str(raised.value)
    sys.modules.pop("broken_extra", None)
