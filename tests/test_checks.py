"""Checks of arguments: what passes, what is refused, and what the message says."""

import math
import sys

import numpy as np
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


@pytest.mark.parametrize("nested", [False, True])
def test_values_are_not_read_under_vmap(nested):
    seen = []

    def look(x):
        seen.append(checks.values_known(x))
        checks.require_values("x", x, x > 0, "positive values")
        return (x * x).sum()

    inner = torch.func.grad(look) if nested else look
    x = torch.arange(6.0).reshape(2, 3)
    result = torch.func.vmap(inner)(x)
    assert seen == [False]
    torch.testing.assert_close(result, 2 * x if nested else (x * x).sum(-1))


def test_values_are_read_under_grad_alone():
    with pytest.raises(ValueError, match="positive values"):
        torch.func.grad(lambda x: checks.require_values("x", x, x > 0, "positive values"))(
            torch.zeros(())
        )


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


ARRAYS = [np.array(0.1), np.array([0.1, 0.2]), np.zeros(()), np.array(2)]


@pytest.mark.parametrize("value", [np.float64(0.5), np.float32(0.5), np.float16(0.5), np.int64(2)])
def test_numbers_of_numpy_are_numbers(value):
    assert type(checks.require_number("step", value, 0.0)) is float
    scale = checks.require_scale("step", value, torch.zeros(2))
    assert type(scale) is float
    assert scale == float(value)
    assert type(checks.require_count("rounds", np.int32(3))) is int


@pytest.mark.parametrize("value", ARRAYS)
def test_arrays_of_numpy_are_refused_by_name(value):
    for check in (checks.require_number, checks.require_count, checks.require_tensor):
        with pytest.raises(TypeError, match=r"^step: .*ndarray"):
            check("step", value)
    with pytest.raises(TypeError, match=r"^step: expected a number or a torch.Tensor, got ndarray"):
        checks.require_scale("step", value, torch.zeros(2))


def test_ranges_of_numbers():
    assert checks.require_number("beta", 1, 0.0, maximum=1.0) == 1.0
    assert checks.require_number("step", INF, 0.0, strict=True, infinite=True) == INF
    with pytest.raises(ValueError, match=r"beta: expected a number in \[0, 1\], got 1.5"):
        checks.require_number("beta", 1.5, 0.0, maximum=1.0)
    with pytest.raises(ValueError, match=r"step: expected a number > 0, got -inf"):
        checks.require_number("step", -INF, 0.0, strict=True, infinite=True)
    with pytest.raises(ValueError, match="step: expected a number > 0, got nan"):
        checks.require_number("step", NAN, 0.0, strict=True, infinite=True)
    with pytest.raises(ValueError, match="got -inf"):
        checks.require_number("step", -(10**400))


def test_a_scale_comes_back_ready_to_meet_points():
    points, steps = torch.zeros(5, 3), torch.rand(5) + 0.1
    assert checks.require_scale("step", steps, points, (5,)) is not None
    ready = checks.require_scale("step", steps, points, (5,), strict=True, trailing=1)
    assert ready.shape == (5, 1)
    assert checks.require_scale("step", steps[0], points, (5,), trailing=2).shape == ()
    wider = checks.require_scale("step", torch.ones(7, 1), points, (5,), trailing=1)
    assert wider.shape == (7, 1, 1)
    infinite = torch.tensor([1.0, INF])
    assert checks.require_scale("step", infinite, points, infinite=True) is infinite
    assert checks.require_scale("beta", torch.tensor([0.0, 1.0]), points, maximum=1.0).shape == (2,)


@pytest.mark.parametrize(
    ("value", "more", "error", "words"),
    [
        (torch.ones(5, dtype=torch.float64), {}, TypeError, "torch.float32"),
        (torch.ones(5, dtype=torch.int64), {}, TypeError, "torch.float32"),
        (True, {}, TypeError, "a number or a torch.Tensor, got bool"),
        ("0.1", {}, TypeError, "got str"),
        ([0.1], {}, TypeError, "got list"),
        (torch.zeros(5), {"strict": True}, ValueError, "finite numbers > 0, got 0.0"),
        (torch.full((5,), INF), {}, ValueError, "finite numbers >= 0, got inf"),
        (torch.full((5,), NAN), {"infinite": True}, ValueError, "numbers >= 0, got nan"),
        (torch.full((5,), 2.0), {"maximum": 1.0}, ValueError, r"numbers in \[0, 1\], got 2.0"),
        (torch.ones(4), {}, ValueError, r"broadcasts with the batch \(5,\), got \(4,\)"),
        (torch.ones(2, 5), {"widens": False}, ValueError, r"broadcasts to the batch \(5,\)"),
        (0.0, {"strict": True}, ValueError, "a finite number > 0, got 0.0"),
        (INF, {}, ValueError, "a finite number >= 0, got inf"),
    ],
)
def test_what_is_no_scale_is_refused(value, more, error, words):
    with pytest.raises(error, match=f"^step: expected .*{words}"):
        checks.require_scale("step", value, torch.zeros(5, 3), (5,), **more)


def test_shapes_of_batches():
    assert checks.require_broadcast("x", (3, 1), (4,)) == (3, 4)
    assert checks.require_broadcast("x", (), (4,), widens=False) == (4,)
    with pytest.raises(ValueError, match=r"x: expected a shape that broadcasts with the data"):
        checks.require_broadcast("x", (3,), (4,), "the data")
    with pytest.raises(ValueError, match=r"x: expected a shape that broadcasts to the data \(1,\)"):
        checks.require_broadcast("x", (3,), (1,), "the data", widens=False)


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
