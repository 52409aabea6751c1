"""Sequences on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory import sequences as sq
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays


def laws(device, dtype):
    space = sq.SequenceSpace(3, 2)
    logits = numbers(device, dtype, 2, space.prefixes, 3)
    other = logits.flip(-1)
    policy = space.log_probs(logits)
    return (
        space.token_log_probs(logits), policy, space.logits(policy),
        space.token_mixture(logits, other, 0.3),
    )  # fmt: skip


def gradients(device, dtype):
    space = sq.SequenceSpace(3, 2)
    logits = numbers(device, dtype, 2, space.prefixes, 3)
    gain, cost = numbers(device, dtype, 2, 9), numbers(device, dtype, 2, 9, 2)
    drawn = torch.arange(9, device=device).expand(2, 9)
    return (
        *(sq.exact_gradient(space, logits, gain, cost, credit) for credit in sq.CREDITS),
        sq.sampled_gradient(space, logits, drawn, gain, cost),
        sq.reinforce_surrogate(space.token_log_probs(logits), gain, cost),
        sq.token_gains(gain), space.weighted_scores(logits, cost),
    )  # fmt: skip


def tokens(device, dtype):
    logits = numbers(device, dtype, 4, 5, 3)
    drawn = torch.arange(20, device=device).remainder(3).reshape(4, 5)
    return sq.token_log_probs(logits, drawn), sq.token_log_probs(logits, drawn, drawn > 0)


CASES = {"laws": laws, "gradients": gradients, "tokens": tokens}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_samples_stay_on_their_device(device):
    space = sq.SequenceSpace(3, 2)
    logits = numbers(device, torch.float32, 2, space.prefixes, 3)
    drawn = space.sample(logits, 5, torch.Generator(device).manual_seed(0))
    assert drawn.device.type == device
    assert drawn.shape == (2, 5)
