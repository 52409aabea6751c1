"""The class game, the mixture token by token, and groups: exact on tables."""

import itertools

import pytest
import torch

from mdtheory.nlhf.language_models import geometric_mixture, opponent_loss, self_play_loss
from mdtheory.nlhf.language_models.classes import (
    class_shares,
    divergence_within_classes,
    log_normalisers,
    spread_over_classes,
)
from mdtheory.nlhf.nash_md import (
    PreferenceGame,
    cyclic_preference,
    kl,
    mixture,
    random_preference,
    regularized_nash,
)
from mdtheory.sequences import SequenceSpace

SPACE = SequenceSpace(3, 3)
KINDS, BATCH = 4, 50


def laws(seed, batch=(BATCH,), scale=1.0):
    g = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(
        *batch, SPACE.prefixes, SPACE.vocabulary, generator=g, dtype=torch.float64
    )
    return logits, SPACE.log_probs(logits)


@pytest.fixture(scope="module")
def classes():
    g = torch.Generator().manual_seed(0)
    found = torch.randint(KINDS, (SPACE.count,), generator=g)
    assert len(found.unique()) == KINDS
    return found


def games(classes, reference, tau):
    """Between answers and between classes, with the same preferences."""
    table = random_preference(KINDS, torch.Generator().manual_seed(3), (BATCH,))
    between = PreferenceGame(table, class_shares(reference, classes, KINDS), tau)
    return PreferenceGame(table[:, classes[:, None], classes], reference, tau), between


# The class game is exact.


@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0])
def test_exploitability_is_that_of_the_classes_and_what_they_do_not_see(classes, tau):
    policy, reference = laws(1)[1], laws(2)[1]
    full, between = games(classes, reference, tau)
    unseen = divergence_within_classes(policy, reference, classes, KINDS)
    shares = class_shares(policy, classes, KINDS)
    whole = full.exploitability(policy)
    torch.testing.assert_close(
        whole, between.exploitability(shares) + tau * unseen, rtol=1e-9, atol=1e-12
    )
    # The bound that is left without the second term; the mutant takes it for an equation.
    assert bool((whole > between.exploitability(shares)).all())
    assert (whole / between.exploitability(shares)).max() > 1.05


def test_what_the_classes_do_not_see_is_a_difference_of_divergences(classes):
    policy, reference = laws(1)[1], laws(2)[1]
    unseen = divergence_within_classes(policy, reference, classes, KINDS)
    seen = kl(class_shares(policy, classes, KINDS), class_shares(reference, classes, KINDS))
    torch.testing.assert_close(unseen, kl(policy, reference) - seen, rtol=1e-9, atol=1e-12)
    assert bool((unseen > 0).all())


def test_nothing_is_unseen_where_classes_are_reweighted(classes):
    reference = laws(2)[1]
    shares = torch.randn(BATCH, KINDS, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(4)).log_softmax(-1)  # fmt: skip
    policy = spread_over_classes(shares, reference, classes)
    assert policy.logsumexp(-1).abs().max() < 1e-12
    torch.testing.assert_close(class_shares(policy, classes, KINDS), shares)
    assert divergence_within_classes(policy, reference, classes, KINDS).abs().max() < 1e-12


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_equilibrium_is_spread_from_that_of_the_classes(classes, tau):
    reference = laws(2)[1]
    full, between = games(classes, reference, tau)
    spread = spread_over_classes(regularized_nash(between), reference, classes)
    torch.testing.assert_close(spread, regularized_nash(full), rtol=0, atol=1e-8)


def test_pooled_shares_bound_from_below(classes):
    """The largest preference is convex: shares of several prompts in one pot hide cycles."""
    policy, reference = laws(1, scale=3.0)[1], laws(2)[1]
    shares = class_shares(policy, classes, KINDS)
    table = random_preference(KINDS, torch.Generator().manual_seed(5), (20, 1))
    game = PreferenceGame(table, class_shares(reference, classes, KINDS)[0], 0.0)
    each = game.exploitability(shares).mean(-1)
    pooled = game.exploitability(shares.exp().mean(0).log())[:, 0]
    assert bool((pooled <= each + 1e-12).all())
    # Three prompts, each with one sign of a circle: all of it is hidden. Equal shares: nothing is.
    circle = PreferenceGame(cyclic_preference(0.4), torch.full((3,), 1 / 3).double().log(), 0.0)
    one_each = torch.eye(3, dtype=torch.float64)
    assert circle.exploitability(one_each.log()).tolist() == pytest.approx([0.4] * 3)
    assert circle.exploitability(one_each.mean(0).log()).item() == pytest.approx(0, abs=1e-12)
    same = one_each[:1].expand(3, -1)
    assert circle.exploitability(same.mean(0).log()).item() == pytest.approx(0.4)


def test_an_empty_class_has_no_share():
    log_policy = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    shares = class_shares(log_policy, torch.tensor([0, 2]), 3)
    assert shares.exp().tolist() == [0.25, 0.0, 0.75]
    other = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    assert divergence_within_classes(log_policy, other, torch.tensor([0, 2]), 3).item() == 0.0


# The mixture token by token.


def along(values):
    """Sums along every sequence of one number a prefix, ``(..., count)``."""
    rows = torch.stack([
        torch.arange(SPACE.count) // SPACE.vocabulary ** (SPACE.length - k)
        + (SPACE.vocabulary**k - 1) // (SPACE.vocabulary - 1)
        for k in range(SPACE.length)
    ], -1)  # fmt: skip
    return values[..., rows].sum(-1)


@pytest.mark.parametrize("weight", [0.125, 0.25, 0.7])
def test_the_mixture_of_tokens_is_off_by_its_normalisers(weight):
    (logits, policy), (base, reference) = laws(6), laws(7)
    blend = geometric_mixture(logits, base, weight)
    found = SPACE.log_probs(blend)
    z = log_normalisers(logits, base, weight)
    straight = (1 - weight) * policy + weight * reference
    torch.testing.assert_close(found, straight - along(z), rtol=1e-9, atol=1e-12)
    assert bool((z < 0).all())  # the bound of Hölder
    # The mutant: the mixture of the laws over answers.
    whole = mixture(policy, reference, weight)
    distance = (found.exp() - whole.exp()).abs().sum(-1) / 2
    assert distance.min() > 1e-3
    assert distance.max() > 0.05


def test_equal_laws_need_no_normaliser():
    logits = laws(6)[0]
    assert log_normalisers(logits, logits + 3.0, 0.25).abs().max() < 1e-12


def test_equal_sums_of_normalisers_make_the_two_mixtures_one():
    """The reference gives each prefix the policy's law with the tokens turned round."""
    logits = laws(6)[0][:, :1].expand(-1, SPACE.prefixes, -1)
    base = logits.roll(1, -1)
    found = SPACE.log_probs(geometric_mixture(logits, base, 0.25))
    whole = mixture(SPACE.log_probs(logits), SPACE.log_probs(base), 0.25)
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-12)
    assert log_normalisers(logits, base, 0.25).max() < -1e-4


# Groups.

ACTIONS = 4


class Groups:
    """Answers of one token, their scores, and all groups of two against two."""

    def __init__(self, seed):
        g = torch.Generator().manual_seed(seed)
        self.own, self.other, self.base = (
            torch.randn(ACTIONS, generator=g, dtype=torch.float64).log_softmax(-1) for _ in "abc"
        )
        self.scores = torch.eye(ACTIONS, dtype=torch.float64) - self.own.exp()
        self.table = random_preference(ACTIONS, g)
        self.all = torch.tensor(list(itertools.product(range(ACTIONS), repeat=4)))
        mine, theirs = self.all[:, :2], self.all[:, 2:]
        self.chance = (self.own[mine].sum(-1) + self.other[theirs].sum(-1)).exp()
        self.mine, self.theirs = mine, theirs

    def estimates(self, won, loss=opponent_loss):
        """Each group's estimate of the gradient, ``(groups, ACTIONS)``."""
        leaf = self.own[self.mine][..., None].requires_grad_()
        loss(leaf, leaf.detach(), won, 0.0).sum().backward()
        return -(leaf.grad * self.scores[self.mine]).sum(-2)

    def moments(self, found):
        mean = self.chance @ found
        return mean, self.chance @ found**2 - mean**2


@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_of_a_group_are_unbiased_and_vary_no_more(seed):
    world = Groups(seed)
    won = world.table[world.mine[:, :, None], world.theirs[:, None]]
    mean, spread = world.moments(world.estimates(won))
    gain = world.table @ world.other.exp() - 0.5
    truth = (world.own.exp()[:, None] * world.scores * gain[:, None]).sum(0)
    torch.testing.assert_close(mean, truth, rtol=0, atol=1e-14)
    disjoint = won.diagonal(dim1=-2, dim2=-1)[..., None]
    same, wider = world.moments(world.estimates(disjoint))
    torch.testing.assert_close(same, truth, rtol=0, atol=1e-14)
    assert bool((spread <= wider * (1 + 1e-12)).all())
    assert (spread / wider).min() < 0.95


def test_nothing_is_gained_where_the_opponent_does_not_matter():
    world = Groups(0)
    level = torch.linspace(0.1, 0.9, ACTIONS, dtype=torch.float64)
    won = level[world.mine][:, :, None].expand(-1, -1, 2)
    _, spread = world.moments(world.estimates(won))
    _, wider = world.moments(world.estimates(won[..., :1]))
    torch.testing.assert_close(spread, wider, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_the_diagonal_would_halve_the_preference(seed):
    world = Groups(seed)
    won = world.table[world.mine[:, :, None], world.mine[:, None]]
    gain = world.table @ world.own.exp() - 0.5
    truth = (world.own.exp()[:, None] * world.scores * gain[:, None]).sum(0)
    mean, _ = world.moments(world.estimates(won, self_play_loss))
    torch.testing.assert_close(mean, truth, rtol=0, atol=1e-14)
    kept, _ = world.moments(world.estimates(won))
    torch.testing.assert_close(kept, truth / 2, rtol=0, atol=1e-14)
