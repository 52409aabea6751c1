"""Group-relative REINFORCE: one step, what a small loss buys, groups, clipping, identities."""

import itertools

import pytest
import torch

from mdtheory.convex.mirror_maps import kl
from mdtheory.rl import group_relative as gr
from mdtheory.rl.group_relative import bounds
from mdtheory.rl.mdpo import ppo_loss
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, breaks, differ, fails, identity
from tests.rl.group_relative_cases import F64, laws, mean, normal, source

# One step.


def one_step(seed, count=200, n=6, K=5):
    """Random policies, anchors, groups of any origin and weights, and the scores of the answers."""
    g = source(seed)
    logits, anchor = normal(g, count, n), normal(g, count, n).log_softmax(-1)
    answers = torch.randint(n, (count, K), generator=g)
    rewards, weights = normal(g, count, K), laws(g, count, K)
    tau = (normal(g, count) / 2).exp()
    score = torch.nn.functional.one_hot(answers, n).to(F64) - logits.softmax(-1)[:, None]
    return logits, anchor, answers, rewards, weights, tau, score


def pairwise_gradient(logits, anchor, answers, rewards, weights, tau):
    logits = logits.clone().requires_grad_()
    log_prob = logits.log_softmax(-1).gather(-1, answers)
    loss = gr.pairwise_consistency_loss(rewards, log_prob, anchor.gather(-1, answers), tau, weights)
    return loss.detach(), torch.autograd.grad(loss.sum(), logits)[0]


@pytest.mark.theorem("thm-one-step", "equality")
@pytest.mark.theorem("thm-one-step", "mutant")
def test_gradient_of_the_pairwise_loss():
    logits, anchor, answers, rewards, w, tau, score = one_step(0)
    loss, gradient = pairwise_gradient(logits, anchor, answers, rewards, w, tau)
    gap = rewards - tau[:, None] * (logits.log_softmax(-1) - anchor).gather(-1, answers)
    pairs = sum(
        w[:, i] * w[:, j] * (gap[:, i] - gap[:, j]) ** 2
        for i, j in itertools.combinations(range(w.shape[-1]), 2)
    )
    check_identity("thm-one-step", loss, pairs)

    def formula(center):
        return -2 * tau[:, None] * ((w * (gap - center))[..., None] * score).sum(1)

    # Mutants: the mean without weights; no factor 2 tau.
    check = identity("thm-one-step")
    true = gradient, formula(mean(w, gap))
    fails(check, gradient, formula(gap.mean(-1, keepdim=True)), true=true)
    fails(check, gradient, true[1] / (2 * tau[:, None]), true=true)


@pytest.mark.theorem("thm-one-step", "equality")
def test_at_the_anchor_it_is_group_relative_reinforce():
    logits, _, answers, rewards, w, tau, _ = one_step(1)
    anchor = logits.log_softmax(-1)
    _, gradient = pairwise_gradient(logits, anchor, answers, rewards, w, tau)
    moving = logits.clone().requires_grad_()
    log_prob = moving.log_softmax(-1).gather(-1, answers)
    reinforce = -(w * (rewards - mean(w, rewards)) * log_prob).sum()
    plain = torch.autograd.grad(reinforce, moving)[0]
    check_identity("thm-one-step", gradient, 2 * tau[:, None] * plain)


def test_uniform_weights_are_the_default():
    logits, anchor, answers, rewards, w, tau, _ = one_step(2)
    log_prob, old = logits.log_softmax(-1).gather(-1, answers), anchor.gather(-1, answers)
    plain = gr.pairwise_consistency_loss(rewards, log_prob, old, tau)
    torch.testing.assert_close(
        plain, gr.pairwise_consistency_loss(rewards, log_prob, old, tau, torch.ones_like(w))
    )
    # A constant on the rewards of a group, or on its log-probabilities, changes nothing.
    moved = gr.pairwise_consistency_loss(rewards + 3, log_prob - 1, old, tau)
    torch.testing.assert_close(plain, moved)
    order = torch.randperm(5, generator=source(3))
    torch.testing.assert_close(
        plain,
        gr.pairwise_consistency_loss(rewards[:, order], log_prob[:, order], old[:, order], tau),
    )


# What a small loss buys.


def consistency(seed, count=2000, n=4):
    """Suboptimality, KL to the optimum, loss, weights, temperature; half of them nearly optimal."""
    g = source(seed)
    tau = (normal(g, count) * 1.2).exp()
    anchor, rewards, weights = laws(g, count, n).log(), normal(g, count, n), laws(g, count, n)
    near = anchor + rewards / tau[:, None] + normal(g, count, n) * (2 * normal(g, count, 1)).exp()
    policy = torch.where(torch.arange(count)[:, None] % 2 == 0, near, normal(g, count, n))
    return sides(policy.log_softmax(-1), anchor, rewards, tau, weights)


def sides(policy, anchor, rewards, tau, weights):
    best = (anchor + rewards / tau[:, None]).log_softmax(-1)

    def objective(law):
        return (law.exp() * rewards).sum(-1) - tau * kl(law, anchor)

    loss = gr.pairwise_consistency_loss(rewards, policy, anchor, tau, weights)
    return objective(best) - objective(policy), tau * kl(policy, best), loss, weights, tau


@pytest.mark.theorem("thm-consistency", "equality")
@pytest.mark.theorem("thm-consistency", "bound")
@pytest.mark.theorem("thm-consistency", "mutant")
def test_a_small_loss_buys_optimality():
    gap, divergence, loss, weights, tau = consistency(0)
    # Mutant: the divergence the other way round would be the same only at the optimum.
    check_identity("thm-consistency", gap, divergence, tolerance=1e-10)
    assert (
        check_bound("thm-consistency", divergence, bounds.suboptimality_bound(loss, weights, tau))
        > 0.5
    )
    # Mutant: the mean weight in place of the least.
    wrong = loss / (4 * tau * weights.mean(-1))
    assert breaks("thm-consistency", divergence, wrong)


@pytest.mark.theorem("thm-consistency", "bound")
@pytest.mark.theorem("thm-consistency", "mutant")
def test_the_constant_of_the_small_loss_is_attained():
    count, n = 20, 2
    half = torch.full((count, n), 0.5, dtype=F64)
    rewards = torch.zeros(count, n, dtype=F64)
    rewards[:, 0] = torch.logspace(-1, -4, count, dtype=F64)
    one = torch.ones(count, dtype=F64)
    _, divergence, loss, weights, tau = sides(half.log(), half.log(), rewards, one, half)
    right = bounds.suboptimality_bound(loss, weights, tau)
    assert (divergence / right).max() > 1 - 1e-6
    scale = right.max() / right  # so that the tolerance of the check is relative
    fails(
        bound("thm-consistency"), 1e6 * scale * divergence, 1e6 * scale * right / 2,
        true=(1e6 * scale * divergence, 1e6 * scale * right),
    )  # fmt: skip


# Groups.


def expected_step(mu, rewards, K, advantages):
    """Mean over all groups of K answers of the step on the logits of a uniform policy."""
    n = len(mu)
    groups = torch.tensor(list(itertools.product(range(n), repeat=K)))
    chance = mu[groups].prod(-1)
    score = torch.nn.functional.one_hot(groups, n).to(F64) - 1 / n
    step = (advantages(rewards[groups])[..., None] * score).mean(1)
    return (chance[:, None] * step).sum(0)


@pytest.mark.theorem("prop-groups", "equality")
@pytest.mark.theorem("prop-groups", "mutant")
@pytest.mark.parametrize("K", [2, 3, 5])
def test_expected_step_of_groups(K):
    g = source(K)
    mu, rewards = laws(g, 4), normal(g, 4)
    step = expected_step(mu, rewards, K, gr.group_advantages)
    score = torch.eye(4, dtype=F64) - 0.25
    population = ((mu * (rewards - (mu * rewards).sum()))[:, None] * score).sum(0)
    check_identity("prop-groups", step, (1 - 1 / K) * population)
    assert differ("prop-groups", step, population)
    # Leaving one out is the population's step.
    apart = lambda r: r - (r.sum(-1, keepdim=True) - r) / (K - 1)  # noqa: E731
    check_identity("prop-groups", expected_step(mu, rewards, K, apart), population)


@pytest.mark.theorem("prop-groups", "equality")
@pytest.mark.theorem("prop-groups", "mutant")
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("K", [2, 4, 6])
def test_weight_of_a_prompt_under_grpo(K, unbiased):
    mu = torch.tensor([0.1, 0.2, 0.7], dtype=F64)
    rewards = torch.tensor([1.0, 1.0, 0.0], dtype=F64)
    normalized = lambda r: gr.group_advantages(r, True, epsilon=0.0, unbiased=unbiased)  # noqa: E731
    scaled = expected_step(mu, rewards, K, normalized)
    plain = expected_step(mu, rewards, K, gr.group_advantages)
    success = (mu * rewards).sum()
    weight = gr.prompt_weight(success, K, unbiased=unbiased)
    check_identity("prop-groups", scaled, weight * plain)
    assert differ("prop-groups", scaled, plain / (success * (1 - success)).sqrt())


def test_weights_of_large_groups():
    p = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    limit = 1 / (p * (1 - p)).sqrt()
    torch.testing.assert_close(gr.prompt_weight(p, 5000), limit, rtol=2e-3, atol=0)


# Where clipping stops.


def clipped_flow(success, low, high, importance, most=1e-3):
    """The flow on the logit of the right one of two answers, each step so long that the
    probability moves by ``most``: time does not change where a flow on a line stops."""
    p = success.clone()
    advantage = torch.stack([1 - success, -success], -1)
    for _ in range(1200):
        ratio = torch.stack([p / success, (1 - p) / (1 - success)], -1)
        mask = gr.clipped_mask(ratio, advantage, "one_side", low, high)
        pull = torch.where(mask, ratio if importance else 1.0, 0.0)
        rate = p * (1 - p) * (pull[:, 0] * (1 - p) + pull[:, 1] * p)
        speed = torch.where(rate > 0, most / rate, 0.0).clamp(max=1e3)
        p = torch.sigmoid(p.logit() + speed * rate / (p * (1 - p)))
    return p


@pytest.mark.theorem("prop-clip-stop", "equality")
@pytest.mark.theorem("prop-clip-stop", "mutant")
@pytest.mark.parametrize("importance", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.6, 2.0), (0.1, 0.5)])
def test_where_one_side_stops(low, high, importance):
    success = torch.tensor([0.02, 0.06, 0.3, 0.6], dtype=F64)
    end = clipped_flow(success, low, high, importance)
    stop = gr.clip_stop(success, low, high)
    inside = stop < 1
    check = lambda left, right: check_identity("prop-clip-stop", left, right, tolerance=3e-3)  # noqa: E731
    swapped = gr.clip_stop(success, min(high, 1.0), low) if low != high else (1 + high) * success
    fails(check, end[inside], swapped[inside], true=(end[inside], stop[inside]))
    assert (end[~inside] > 0.9).all()


# When the algorithms coincide.


def tokens(seed, count=50, n=6, length=4, spread=0.5):
    """Log-probabilities that move, old ones, advantages; groups of three."""
    g = source(seed)
    old = -normal(g, count, n, length).abs()
    now = (old + spread * normal(g, count, n, length)).requires_grad_()
    rewards = (normal(g, count, n // 3, 3) > 0).to(F64)
    return now, old, rewards


def gradient(loss, now):
    return torch.autograd.grad(loss.sum(), now)[0]


def flat(advantage):
    return advantage.flatten(-2)


@pytest.mark.theorem("prop-coincide", "equality")
@pytest.mark.theorem("prop-coincide", "mutant")
def test_fresh_answers_make_all_masks_alike():
    now, old, rewards = tokens(0, spread=0.0)
    advantage = flat(gr.group_advantages(rewards))
    plain = gradient(gr.rec_loss(now, old, advantage, kind="none", importance=False), now)
    for kind in ("none", "one_side", "two_side", "ring"):
        for importance in (False, True):
            loss = gr.rec_loss(now, old, advantage, None, kind, importance)
            check_identity("prop-coincide", gradient(loss, now), plain)
    square = gr.opmd_loss(now, old, advantage)
    check_identity("prop-coincide", gradient(square, now), plain)
    # Mutant: a shift is no regulariser that vanishes.
    assert differ("prop-coincide", gradient(gr.asymmetric_loss(now, advantage), now), plain)


@pytest.mark.theorem("prop-coincide", "equality")
@pytest.mark.theorem("prop-coincide", "mutant")
def test_one_side_with_weights_is_the_clip_of_ppo():
    now, old, rewards = tokens(1)
    advantage = flat(gr.group_advantages(rewards))
    wide = advantage[..., None].expand_as(now).flatten(-2)
    ppo = gradient(ppo_loss(now.flatten(-2), old.flatten(-2), wide, 0.2), now)
    one_side = gradient(gr.rec_loss(now, old, advantage), now)
    two_side = gradient(gr.rec_loss(now, old, advantage, kind="two_side"), now)
    fails(identity("prop-coincide"), two_side, ppo, true=(one_side, ppo))
    for average in ("tokens", "responses", "constant"):
        surrogate = gr.grpo_loss(now, old, advantage, average=average)
        rec = gr.rec_loss(now, old, advantage, average=average)
        check_identity("prop-coincide", gradient(surrogate, now), gradient(rec, now))


@pytest.mark.theorem("prop-coincide", "equality")
@pytest.mark.theorem("prop-coincide", "mutant")
def test_two_side_lies_in_the_ring_and_the_ring_in_one_side():
    ratio = torch.linspace(0, 4, 401, dtype=F64)[:, None]
    advantage = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0], dtype=F64)
    masks = {k: gr.clipped_mask(ratio, advantage, k) for k in ("two_side", "ring", "one_side")}
    assert (masks["two_side"] <= masks["ring"]).all()
    assert (masks["ring"] <= masks["one_side"]).all()
    counts = [int(mask.sum()) for mask in masks.values()]
    assert counts[0] < counts[1] < counts[2]
    # Mutant: the sides of the one-sided mask swapped; it does not contain the other two.
    swapped = gr.clipped_mask(ratio, -advantage, "one_side")
    assert not (masks["ring"] <= swapped).all()
    # A second way: a token is silent if a step would push its ratio further out.
    outside = ((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0))
    assert torch.equal(masks["one_side"], ~outside)


@pytest.mark.theorem("prop-coincide", "equality")
@pytest.mark.theorem("prop-coincide", "mutant")
def test_equal_rewards_teach_nothing():
    now, old, rewards = tokens(2)
    for equal in (torch.full_like(rewards, 0.7), rewards[..., :1]):  # equal rewards, groups of one
        advantage = gr.group_advantages(equal).expand_as(rewards)
        for kind in ("none", "one_side", "ring"):
            silent = gradient(gr.rec_loss(now, old, flat(advantage), None, kind), now)
            check_identity("prop-coincide", silent, torch.zeros_like(silent), tolerance=1e-15)
        factor, baseline = gr.red_weights(equal, "weight")
        zero = factor * (equal - baseline)
        check_identity("prop-coincide", zero, torch.zeros_like(zero), tolerance=1e-15)
        # Mutant: AsymRE, which imitates them all.
        imitation = gradient(gr.asymmetric_loss(now, flat(advantage), shift=0.1), now)
        check_identity("prop-coincide", imitation, torch.full_like(imitation, -0.1 / 24))
        assert differ("prop-coincide", imitation, torch.zeros_like(imitation))


@pytest.mark.theorem("prop-coincide", "equality")
@pytest.mark.theorem("prop-coincide", "mutant")
def test_red_weights_are_a_consistent_part_and_imitation():
    g = source(3)
    rewards, score = normal(g, 200, 8), normal(g, 200, 8, 3)
    factor, baseline = gr.red_weights(rewards, "weight", 0.7)
    centred, weighted = gr.red_weights(rewards, "weight_centred", 0.7)
    check_identity("prop-coincide", factor, centred)
    lead = weighted - baseline
    covariance = (factor * (rewards - baseline)).mean(-1, keepdim=True)
    check_identity("prop-coincide", lead, covariance / factor.mean(-1, keepdim=True))
    assert (lead > 0).all()

    def step(advantage):
        return (advantage[..., None] * score).sum(1)

    red = step(factor * (rewards - baseline))
    both = step(factor * (rewards - weighted)) + lead * step(factor)
    fails(identity("prop-coincide"), red, both - lead * step(factor), true=(red, both))
