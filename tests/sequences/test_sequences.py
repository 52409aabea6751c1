"""Enumerated sequences: their order, their law, their derivatives and the token-wise mixture."""

import itertools
import math

import pytest
import torch

from mdtheory.convex.mirror_maps import mixture
from mdtheory.sequences import SequenceSpace


def random_logits(space, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, space.prefixes, space.vocabulary)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("vocabulary", "length"), [(2, 1), (2, 4), (3, 3), (8, 2), (5, 1)])
def test_the_order_is_lexicographic_and_the_law_a_product(vocabulary, length):
    space = SequenceSpace(vocabulary, length)
    words = list(itertools.product(range(vocabulary), repeat=length))
    assert space.count == len(words) == vocabulary**length
    assert space.sequences.tolist() == [list(word) for word in words]
    begun = [
        begin
        for size in range(length)
        for begin in itertools.product(range(vocabulary), repeat=size)
    ]
    assert space.prefixes == len(begun)
    logits = random_logits(space, seed=1)
    rows = logits.log_softmax(-1)
    found = space.token_log_probs(logits)
    assert found.shape == (space.count, length)
    for index, word in enumerate(words):
        for place, token in enumerate(word):
            assert found[index, place] == rows[begun.index(word[:place]), token]
    torch.testing.assert_close(space.log_probs(logits), found.sum(-1))
    assert math.isclose(space.log_probs(logits).exp().sum().item(), 1.0, abs_tol=1e-12)


def test_leading_axes_are_policies():
    space = SequenceSpace(3, 2)
    logits = random_logits(space, 4, 2)
    together = space.log_probs(logits)
    assert together.shape == (4, 2, 9)
    torch.testing.assert_close(together[2, 1], space.log_probs(logits[2, 1]))
    weights = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64)[:, None]
    mixed = space.token_mixture(logits, random_logits(space, seed=5), weights)
    alone = space.token_mixture(logits[1, 0], random_logits(space, seed=5), 0.3)
    torch.testing.assert_close(mixed[1, 0], alone)


def test_gradients_pass():
    space = SequenceSpace(2, 3)
    logits = random_logits(space).requires_grad_()
    other = random_logits(space, seed=2)
    assert torch.autograd.gradcheck(space.log_probs, logits)
    assert torch.autograd.gradcheck(lambda x: space.token_mixture(x, other, 0.3), logits)


def test_the_mixture_by_tokens_is_not_the_one_by_sequences():
    space = SequenceSpace(3, 2)
    ours, other = random_logits(space, seed=3), random_logits(space, seed=4)
    for weight, alone in ((0.0, ours), (1.0, other)):
        ends = space.log_probs(space.token_mixture(ours, other, weight))
        torch.testing.assert_close(ends, space.log_probs(alone))
    tokens = space.log_probs(space.token_mixture(ours, other, 0.5))
    whole = mixture(space.log_probs(ours), space.log_probs(other), 0.5)
    assert (tokens.exp() - whole.exp()).abs().sum() > 1e-3
    # With one token they are the same.
    single = SequenceSpace(4, 1)
    ours, other = random_logits(single, seed=3), random_logits(single, seed=4)
    torch.testing.assert_close(
        single.log_probs(single.token_mixture(ours, other, 0.5)),
        mixture(single.log_probs(ours), single.log_probs(other), 0.5),
    )


def test_samples_follow_the_law():
    space = SequenceSpace(3, 2)
    logits = random_logits(space, 2)
    draws = space.sample(logits, 40_000, torch.Generator().manual_seed(0))
    assert draws.shape == (2, 40_000)
    for policy, drawn in zip(space.log_probs(logits).exp(), draws, strict=True):
        found = torch.bincount(drawn, minlength=9) / 40_000
        assert (found - policy).abs().max() < 0.012
    again = space.sample(logits, 40_000, torch.Generator().manual_seed(0))
    assert torch.equal(draws, again)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((1, 3), ValueError), ((3, 0), ValueError), ((8, 9), ValueError), ((2.0, 3), TypeError)],
)
def test_spaces_which_are_none(arguments, error):
    with pytest.raises(error, match=r"vocabulary|length"):
        SequenceSpace(*arguments)


def test_logits_which_are_none():
    space = SequenceSpace(2, 3)
    good = random_logits(space)
    with pytest.raises(ValueError, match=r"logits: expected shape \(..., 7, 2\), got \(6, 2\)"):
        space.log_probs(good[:6])
    with pytest.raises(ValueError, match="logits: expected finite"):
        space.log_probs(good.where(good < 1, torch.nan))
    with pytest.raises(TypeError, match="reference_logits"):
        space.token_mixture(good, good.float(), 0.5)
    for weight, error in ((1.5, ValueError), (float("nan"), ValueError), ("half", TypeError)):
        with pytest.raises(error, match="weight"):
            space.token_mixture(good, good, weight)
    with pytest.raises(ValueError, match="count"):
        space.sample(good, 0, torch.Generator())
