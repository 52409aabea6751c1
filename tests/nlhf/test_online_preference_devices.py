"""Online preference optimisation on every device present against float64 on the CPU."""

from pathlib import Path

import pytest
import torch

from mdtheory.nlhf import online_preference as op
from mdtheory.nlhf.nash_md import PreferenceGame
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays

B, N = 3, 4


def game(device, dtype):
    """A game, and a policy."""
    raw = numbers(device, dtype, B, N, N)
    policy, reference = numbers(device, dtype, 2, B, N).log_softmax(-1)
    return PreferenceGame((raw - raw.mT).sigmoid(), reference, 0.3), policy


def law(device, dtype):
    return (2 * numbers(device, dtype, B, N)).log_softmax(-1)


def pair(device, dtype):
    return tuple(numbers(device, dtype, 4, B))


def losses(d, t):
    first = pair(d, t)
    liked = first[0] > 0
    return (
        op.log_ratio_margin(*first), op.ipo_loss(*first, 0.5), op.ipo_contrast_loss(*first, 0.5),
        op.dpo_loss(*first, 0.5), op.slic_loss(*first, 0.5),
        op.kto_loss(first[0], first[1], liked, 0.5),
        op.sppo_loss(first[0], first[1], first[2].sigmoid(), 0.5),
        op.inpo_loss(*first, 0.5, first[1], first[2], 0.5),
        op.xpo_loss(*first, 0.5, first[0], 0.1),
        op.soft_label(op.ipo_loss, first[0].sigmoid(), *first, 0.5),
    )  # fmt: skip


def newton(d, t):
    played, _ = game(d, t)
    return (
        op.newton_iterates(played, 2, 0.5, 0.25),
        op.newton_iterates(played, 2, 0.5, sampling=law(d, t)),
    )


CASES = {
    "losses": losses,
    "expected": lambda d, t: (
        op.expected_loss(game(d, t)[0], op.dpo_loss, game(d, t)[1], law(d, t)),
        op.ipo_md_loss(*game(d, t), 0.25),
    ),
    "gradients": lambda d, t: (
        op.ipo_gradient(*game(d, t), law(d, t)), op.online_ipo_gradient(*game(d, t)),
        op.ipo_md_gradient(*game(d, t), 0.25), op.dpo_gradient(*game(d, t)),
        op.response_gradient(*game(d, t), law(d, t)),
    ),
    "variances": lambda d, t: tuple(op.contrastive_variance(*game(d, t))),
    "newton": newton,
    "descend": lambda d, t: (op.descend(torch.exp, law(d, t), 0.5, 2),),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_score_gradients_stay_on_their_device(device):
    """Automatic differentiation does not run on a stand-in device."""
    played, policy = game(device, torch.float64)
    free, drawn = policy.clone().requires_grad_(), law(device, torch.float64)
    found = op.score_gradient(played, free.log_softmax(-1), free, drawn)
    assert found.device.type == device
    wanted = op.ipo_gradient(played, policy, drawn)
    torch.testing.assert_close(found, wanted)


def test_every_public_function_has_a_case():
    """What only names a result is left out."""
    source = Path(__file__).read_text("utf-8")
    for name in set(op.__all__) - {"Variances"}:
        assert f"op.{name}(" in source, name
