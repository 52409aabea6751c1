"""The loss of EPO: hand values, ragged turns, padding, kinds of penalty."""

import math

import pytest
import torch

from mdtheory.rl.entropy import (
    corridor_penalty,
    epo_loss,
    net_coefficient,
    phase_weight,
    trajectory_entropy,
)
from mdtheory.rl.entropy.smoothing import token_weights

F64 = torch.float64


def tensor(values, dtype=F64):
    return torch.tensor(values, dtype=dtype)


def ragged(generator, *shape):
    """Masks with turns of different lengths, the first token of the first turn always there."""
    lengths = torch.randint(0, shape[-1] + 1, shape[:-1], generator=generator)
    lengths[..., 0] = lengths[..., 0].clamp(min=1)
    return torch.arange(shape[-1]) < lengths[..., None]


def test_one_turn_of_one_token():
    entropy = tensor([[[0.7]]])
    assert trajectory_entropy(entropy, torch.ones(1, 1, 1, dtype=torch.bool)).tolist() == [0.7]
    # Above the roof 1.5 * 0.4 = 0.6 by 0.1.
    loss = epo_loss(tensor(2.0), entropy, torch.ones(1, 1, 1), 0.4, 2.0, 0.1, 0.5)
    assert loss.item() == pytest.approx(2.0 - 0.1 * (0.7 - 2.0 * 0.5 * 0.1), abs=1e-15)


def test_a_mean_of_means_is_no_mean_of_tokens():
    entropy = tensor([[1.0, 0.0, 0.0], [4.0, 2.0, 3.0], [9.0, 9.0, 9.0]])
    mask = tensor([[1, 0, 0], [1, 1, 1], [0, 0, 0]]) > 0
    assert trajectory_entropy(entropy, mask).item() == pytest.approx((1 + 3) / 2)
    assert entropy[mask].mean().item() == pytest.approx(10 / 4)


def test_nested_means_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(1)
    entropy = torch.rand(2, 5, 4, 3, generator=generator, dtype=F64)
    mask = ragged(generator, 2, 5, 4, 3)
    found = trajectory_entropy(entropy, mask)
    for run in range(2):
        for k in range(5):
            turns = [
                math.fsum(row[there].tolist()) / int(there.sum())
                for row, there in zip(entropy[run, k], mask[run, k], strict=True)
                if there.any()
            ]
            assert found[run, k].item() == pytest.approx(math.fsum(turns) / len(turns), abs=1e-14)


def test_numbers_0_and_1_are_a_mask():
    generator = torch.Generator().manual_seed(2)
    entropy, mask = torch.rand(3, 4, 2, generator=generator), ragged(generator, 3, 4, 2)
    for other in (mask.float(), mask.long()):
        torch.testing.assert_close(
            trajectory_entropy(entropy, other), trajectory_entropy(entropy, mask), rtol=0, atol=0
        )


@pytest.mark.parametrize("held", [math.nan, math.inf, -5.0])
def test_padding_has_exactly_no_gradient(held):
    generator = torch.Generator().manual_seed(3)
    mask = ragged(generator, 2, 6, 4, 3)
    entropy = torch.rand(2, 6, 4, 3, generator=generator, dtype=F64)
    filled = torch.where(mask, entropy, held).requires_grad_()
    plain = torch.where(mask, entropy, 0.0).requires_grad_()
    loss = tensor([0.3, -1.0])
    results = [epo_loss(loss, x, mask, tensor([0.4, 0.2]), 1.5, 0.1, 0.7) for x in (filled, plain)]
    gradients = torch.autograd.grad([r.sum() for r in results], [filled, plain])
    assert torch.equal(*results)
    assert torch.equal(*gradients)
    assert (gradients[0][~mask] == 0).all()
    assert (gradients[0][mask] != 0).all()


def test_the_weights_of_tokens_sum_to_one():
    generator = torch.Generator().manual_seed(4)
    weights = token_weights(ragged(generator, 50, 6, 5), F64)
    torch.testing.assert_close(weights.sum((-2, -1)), torch.ones(50, dtype=F64))


def test_penalty_in_and_outside():
    entropy = tensor([0.0, 0.3, 0.5, 1.0, 1.5, 2.5])
    relu = corridor_penalty(entropy, 1.0, 0.5, 1.5)
    assert relu.tolist() == pytest.approx([0.5, 0.2, 0, 0, 0, 1.0])
    flag = corridor_penalty(entropy, 1.0, 0.5, 1.5, "indicator")
    assert flag.tolist() == [1, 1, 0, 0, 0, 1]
    # A floor of 0 never asks for more entropy, for entropy is never negative.
    assert corridor_penalty(entropy, 1.0, 0.0, 2.5).tolist() == [0] * 6


def test_corridor_meets_batches():
    entropy = torch.linspace(0, 2, 6, dtype=F64).reshape(2, 3)
    reference, high = tensor([[1.0], [0.5]]), tensor([1.2, 1.5, 2.0])
    found = corridor_penalty(entropy, reference, 0.5, high)
    for i in range(2):
        for j in range(3):
            one = corridor_penalty(entropy[i, j], reference[i, 0].item(), 0.5, high[j].item())
            assert found[i, j].item() == pytest.approx(one.item(), abs=1e-15)


def test_the_phase():
    assert phase_weight(0, 7) == 2.0
    assert phase_weight(60, 120) == pytest.approx(1 + math.exp(-3))
    assert phase_weight(3, 7) == pytest.approx(1 + math.exp(-3))  # floor(7/2) = 3
    assert phase_weight(2, 2, 0.0) == 2.0


def test_special_cases_of_the_loss():
    generator = torch.Generator().manual_seed(5)
    entropy, mask = torch.rand(3, 4, 5, 2, generator=generator, dtype=F64), torch.ones(5, 2)
    loss = torch.randn(3, generator=generator, dtype=F64)
    mean = trajectory_entropy(entropy, mask).mean(-1)
    torch.testing.assert_close(epo_loss(loss, entropy, mask, 0.1, 2.0, 0.0, 1.0), loss)
    base = loss - 0.3 * mean
    torch.testing.assert_close(epo_loss(loss, entropy, mask, 0.1, 2.0, 0.3, 0.0), base)
    torch.testing.assert_close(epo_loss(loss, entropy, mask, None, 2.0, 0.3, 9.0), base)
    # A roof above the largest entropy and a floor of 0 are no corridor.
    torch.testing.assert_close(
        epo_loss(loss, entropy, mask, 1.0, 2.0, 0.3, 9.0, 0.0, 2.0), base, rtol=0, atol=0
    )
    # A scale for each run is the run alone.
    alpha = tensor([0.2, 0.5, 2.0])
    together = epo_loss(loss, entropy, mask, tensor([0.3, 0.4, 0.5]), 1.5, 0.1, alpha)
    for k, reference in enumerate((0.3, 0.4, 0.5)):
        one = epo_loss(loss[k], entropy[k], mask, reference, 1.5, 0.1, alpha[k].item())
        torch.testing.assert_close(together[k], one)


def test_gradients_of_the_loss():
    generator = torch.Generator().manual_seed(6)
    entropy = torch.rand(2, 3, 4, 2, generator=generator, dtype=F64).requires_grad_()
    mask = ragged(generator, 2, 3, 4, 2)
    assert torch.autograd.gradcheck(
        lambda x: epo_loss(x.sum((1, 2, 3)), x, mask, 0.5, 1.4, 0.1, 0.7), entropy
    )


def test_the_past_carries_no_gradient():
    entropy = tensor([[[2.0]]]).requires_grad_()
    reference = tensor(1.0).requires_grad_()
    epo_loss(tensor(0.0), entropy, torch.ones(1, 1), reference, 1.0, 1.0, 1.0).backward()
    assert reference.grad is None


def test_uniform_laws_have_the_largest_entropy():
    """All logits times 0: each token's entropy is the logarithm of its vocabulary."""
    logits = 0.0 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(7))
    law = logits.log_softmax(-1)
    entropy = -(law.exp() * law).sum(-1)
    found = trajectory_entropy(entropy, torch.ones(2, 3))
    assert found.item() == pytest.approx(math.log(7), abs=1e-6)


def test_the_coefficient_on_the_edges_is_that_of_the_inside():
    entropy = tensor([0.5, 1.5])
    assert net_coefficient(entropy, 1.0, 2.0, 0.1, 0.5).tolist() == [0.1, 0.1]
