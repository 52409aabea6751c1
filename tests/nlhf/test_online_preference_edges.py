"""Online preference optimisation at the edges: rows beside columns, silent pairs, zeros."""

import math

import numpy as np
import pytest
import torch

from mdtheory.nlhf import online_preference as op
from mdtheory.nlhf.nash_md import PreferenceGame

F64 = torch.float64
N = 5
ROW = -1 - torch.rand(N, generator=torch.Generator().manual_seed(0), dtype=F64)
WON = torch.rand(N, generator=torch.Generator().manual_seed(1), dtype=F64)
LIKED = WON > 0.5

# Each loss with its arguments, of which any one is turned into a column.
LOSSES = {
    "margin": (op.log_ratio_margin, [ROW, 2 * ROW, 3 * ROW, ROW]),
    "ipo": (op.ipo_loss, [ROW, 2 * ROW, 3 * ROW, ROW, 1 + WON]),
    "contrast": (op.ipo_contrast_loss, [ROW, 2 * ROW, 3 * ROW, ROW, 1 + WON]),
    "dpo": (op.dpo_loss, [ROW, 2 * ROW, 3 * ROW, ROW, 1 + WON]),
    "slic": (op.slic_loss, [ROW, 2 * ROW, 3 * ROW, ROW, 1 + WON]),
    "kto": (op.kto_loss, [ROW, 2 * ROW, LIKED, 1 + WON, WON]),
    "sppo": (op.sppo_loss, [ROW, 2 * ROW, WON, 0.5]),
    "inpo": (op.inpo_loss, [ROW, 2 * ROW, 3 * ROW, ROW, 0.5, 2 * ROW, ROW, 0.5]),
    "xpo": (op.xpo_loss, [ROW, 2 * ROW, 3 * ROW, ROW, 1 + WON, 2 * ROW, 0.5]),
    "soft label": (
        lambda *rest: op.soft_label(op.ipo_loss, *rest),
        [WON, 2 * ROW, 3 * ROW, ROW, ROW, 1 + WON],
    ),
}
PLACES = [
    (name, place)
    for name, (_, arguments) in LOSSES.items()
    for place, argument in enumerate(arguments)
    if isinstance(argument, torch.Tensor)
]


@pytest.mark.parametrize(("name", "place"), PLACES)
def test_a_column_beside_rows_is_refused(name, place):
    loss, arguments = LOSSES[name]
    assert loss(*arguments).shape == (N,)
    wrong = list(arguments)
    wrong[place] = wrong[place][:, None]
    with pytest.raises(ValueError, match="expected"):
        loss(*wrong)
    # Tables are meant where all have two axes, and scalars meet everything.
    table = [a[:, None] if isinstance(a, torch.Tensor) else a for a in arguments]
    table[place] = arguments[place][None, :]
    assert loss(*table).shape == (N, N)
    single = list(arguments)
    single[place] = arguments[place][0]
    assert loss(*single).shape == (N,)


def drawn(n=4, batch=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(*batch, n, n, generator=generator, dtype=F64)
    laws = torch.randn(3, *batch, n, generator=generator, dtype=F64).log_softmax(-1)
    return (uniform + 1 - uniform.mT) / 2, *laws


def test_a_pair_that_is_never_drawn_is_silent_whatever_its_loss():
    preference, policy, reference, _ = drawn()
    sampling = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=F64).log()

    def wild(chosen, rejected, reference_chosen, reference_rejected, temperature):
        plain = op.ipo_loss(chosen, rejected, reference_chosen, reference_rejected, temperature)
        unseen = torch.zeros(4, 4, dtype=torch.bool)
        unseen[2:] = True
        unseen[:, 2:] = True
        return torch.where(unseen, torch.tensor(math.inf, dtype=F64), plain)

    leaf = policy.clone().requires_grad_()
    found = op.expected_loss(PreferenceGame(preference, reference, 0.5), wild, leaf, sampling)
    plain = op.expected_loss(
        PreferenceGame(preference, reference, 0.5), op.ipo_loss, leaf, sampling
    )
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    slopes = [torch.autograd.grad(each, leaf)[0] for each in (found, plain)]
    torch.testing.assert_close(*slopes, rtol=0, atol=0)


@pytest.mark.parametrize(
    "gradient", [op.ipo_gradient, op.dpo_gradient, op.response_gradient], ids=lambda f: f.__name__
)
def test_laws_with_zeros_may_sample(gradient):
    preference, policy, reference, _ = drawn()
    sampling = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=F64).log()
    game = PreferenceGame(preference, reference, 0.5)
    assert gradient(game, policy, sampling).isfinite().all()


def test_a_grid_of_temperatures_meets_one_policy():
    preference, policy, reference, _ = drawn()
    tau = torch.tensor([[0.1], [0.5], [2.0]], dtype=F64)
    many = op.expected_loss(PreferenceGame(preference, reference, tau), op.dpo_loss, policy)
    assert many.shape == (3, 1)
    for k in range(3):
        one = op.expected_loss(
            PreferenceGame(preference, reference, tau[k, 0].item()), op.dpo_loss, policy
        )
        torch.testing.assert_close(many[k, 0], one)


def test_numbers_of_numpy_are_numbers_and_arrays_are_refused_by_name():
    preference, policy, reference, _ = drawn()
    calls = {
        "temperature": lambda x: op.ipo_loss(ROW, ROW, ROW, ROW, x),
        "temperature ": lambda x: op.online_ipo_gradient(
            PreferenceGame(preference, reference, x), policy
        ),
        "weight": lambda x: op.ipo_md_loss(PreferenceGame(preference, reference, 0.5), policy, x),
        "margin": lambda x: op.slic_loss(ROW, ROW, ROW, ROW, 0.5, x),
        "step_size": lambda x: op.sppo_loss(ROW, ROW, WON, x),
        "length": lambda x: op.newton_iterates(PreferenceGame(preference, reference, 0.5), 2, x),
        "step_size ": lambda x: op.descend(lambda p: p, policy, x, 1),
        "baseline": lambda x: op.kto_loss(ROW, ROW, LIKED, 0.5, x),
    }
    for name, call in calls.items():
        for number in (np.float64(0.5), np.float32(0.5)):
            call(number)
        for array in (np.array(0.5), np.array([0.5, 0.5])):
            with pytest.raises(TypeError, match=f"{name.strip()}: expected a number"):
                call(array)


def test_what_is_returned_is_no_view_of_what_came():
    preference, policy, reference, sampling = drawn()
    kept = [each.clone() for each in (policy, reference, sampling)]
    op.newton_iterates(PreferenceGame(preference, reference, 0.5), 0, 0.5, log_policy=policy).fill_(
        7.0
    )
    op.newton_iterates(PreferenceGame(preference, reference, 0.5), 0, 0.5).fill_(7.0)
    op.descend(lambda p: p, policy, 0.1, 0).fill_(7.0)
    op.log_ratio_margin(policy, 0 * policy, 0 * policy, 0 * policy).fill_(7.0)
    assert all(torch.equal(a, b) for a, b in zip(kept, (policy, reference, sampling), strict=True))


def test_float32_losses_far_out_have_finite_gradients():
    far = torch.tensor([200.0, -200.0, 80.0], dtype=torch.float32).requires_grad_()
    zero = torch.zeros(3)
    losses = {
        "ipo": op.ipo_loss(far, zero, zero, zero, 0.5),
        "dpo": op.dpo_loss(far, zero, zero, zero, 0.5),
        "slic": op.slic_loss(far, zero, zero, zero, 0.5),
        "kto": op.kto_loss(far, zero, far > 0, 0.5),
    }
    for name, each in losses.items():
        assert each.isfinite().all(), name
        assert torch.autograd.grad(each.sum(), far)[0].isfinite().all(), name
