"""What the helpers of the mutants accept and refuse."""

import pytest
import torch

from tests.refused import at_most, bound, close, fails, identity

LEFT = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
RIGHT = torch.tensor([1.0, 2.5, 3.0], dtype=torch.float64)
LESS = torch.tensor([1.0, 1.5, 3.0], dtype=torch.float64)


@pytest.mark.parametrize("check", [at_most, bound("thm-omd")])
def test_a_mutant_of_a_bound(check):
    fails(check, LEFT, LESS, true=(LEFT, RIGHT))
    with pytest.raises(AssertionError):  # the true statement is broken as well
        fails(check, LEFT, LESS, true=(LEFT, LESS))
    with pytest.raises(pytest.fail.Exception):  # the mutant holds
        fails(check, LEFT, RIGHT, true=(LEFT, RIGHT))


@pytest.mark.parametrize("check", [close, identity("prop-three-point")])
def test_a_mutant_of_an_identity(check):
    fails(check, LEFT, LESS, true=(LEFT, LEFT + 1e-15), tolerance=1e-12)
    with pytest.raises(AssertionError):
        fails(check, LEFT, LESS, true=(LEFT, RIGHT))


def test_other_instances_and_scaled_sides_are_no_mutants():
    with pytest.raises(AssertionError, match="other instances"):
        fails(at_most, LEFT[:2], LESS[:2], true=(LEFT, RIGHT))
    with pytest.raises(AssertionError, match="only multiplies"):
        fails(at_most, LEFT, RIGHT / 100, true=(LEFT, RIGHT))
    fails(at_most, LEFT, RIGHT / 100, true=(LEFT, RIGHT), scaled="the constant is forgotten")
    fails(at_most, LEFT, RIGHT / 2, true=(LEFT, RIGHT))  # a bound that is tight within three


def test_a_nan_breaks_every_statement_and_equal_infinities_agree():
    nan, infinite = LEFT * torch.nan, LEFT * torch.inf
    for check in (at_most, close):
        with pytest.raises(AssertionError):
            check(LEFT, nan)
        check(infinite, infinite)
    close(1e-20 * LEFT, 1e-20 * RIGHT)
    with pytest.raises(AssertionError):
        close(1e-20 * LEFT, 1e-20 * RIGHT, ())
    close(1e-20 * LEFT, 1e-20 * RIGHT, (LEFT,))
