"""Advantages and losses against the published forms, padding, ties, and what is refused."""

import math

import pytest
import torch

from mdtheory.rl import group_relative as gr
from tests.rl.group_relative_cases import F64, normal, source


def batch(seed, prompts=5, K=4, length=7):
    """Padded answers: log-probabilities now and then, rewards of groups, and which tokens exist."""
    g = source(seed)
    old = -normal(g, prompts * K, length).abs()
    now = (old + 0.4 * normal(g, prompts * K, length)).requires_grad_()
    rewards = (normal(g, prompts, K) > 0.3).to(F64) + 0.1 * normal(g, prompts, K)
    lengths = torch.randint(1, length + 1, (prompts * K, 1), generator=g)
    return now, old, rewards, torch.arange(length) < lengths


def gradient(loss, now):
    return torch.autograd.grad(loss.sum(), now, retain_graph=True)[0]


def clipped_surrogate(now, old, advantage, low, high):
    """Per-token loss as published: the larger of two losses, as a loop would write it."""
    ratio = torch.exp(now - old)
    first = ratio * advantage[:, None]
    second = torch.clamp(ratio, 1 - low, 1 + high) * advantage[:, None]
    return -torch.minimum(first, second)


def published(name, terms, mask):
    """The loss types of a library of trainers, from its documentation."""
    mask = mask.to(terms.dtype)
    if name == "grpo":
        return ((terms * mask).sum(1) / mask.sum(1)).mean()
    if name == "dapo":
        return (terms * mask).sum() / mask.sum()
    return (terms * mask).sum() / (terms.shape[0] * terms.shape[1])


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.2, 0.28), (0.6, 2.0)])
@pytest.mark.parametrize(
    ("name", "average"), [("grpo", "responses"), ("dapo", "tokens"), ("dr_grpo", "constant")]
)
def test_grpo_and_its_variants(name, average, low, high):
    now, old, rewards, mask = batch(0)
    standard = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    if name == "dr_grpo":
        standard = rewards - rewards.mean(1, keepdim=True)
    theirs = published(name, clipped_surrogate(now, old, standard.flatten(), low, high), mask)
    ours = gr.group_advantages(rewards, name != "dr_grpo", epsilon=1e-4).flatten()
    torch.testing.assert_close(ours, standard.flatten(), rtol=0, atol=1e-12)
    value = gr.grpo_loss(now, old, ours, mask, low, high, average=average)
    torch.testing.assert_close(value, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(value, now), gradient(theirs, now), rtol=0, atol=1e-12)
    rec = gr.rec_loss(now, old, ours, mask, low=low, high=high, average=average)
    torch.testing.assert_close(gradient(rec, now), gradient(theirs, now), rtol=0, atol=1e-12)


def test_leave_one_out():
    now, old, rewards, mask = batch(1)
    K = rewards.shape[1]
    others = [torch.stack([row[torch.arange(K) != i].mean() for i in range(K)]) for row in rewards]
    advantage = (rewards - torch.stack(others)).flatten()
    ours = K / (K - 1) * gr.group_advantages(rewards).flatten()
    torch.testing.assert_close(ours, advantage, rtol=0, atol=1e-12)
    # The whole answer is one action: the surrogate of its probability, at the policy that acted.
    whole = (now * mask).sum(1)
    theirs = -(advantage * (whole - whole.detach()).exp()).mean()
    loss = gr.rec_loss(now, old, ours, mask, "none", False, average="constant") * mask.shape[1]
    torch.testing.assert_close(gradient(loss, now), gradient(theirs, now), rtol=0, atol=1e-12)


def test_averages_differ_where_lengths_do():
    now, old, rewards, mask = batch(2)
    advantage = gr.group_advantages(rewards).flatten()
    values = [
        gr.rec_loss(now, old, advantage, mask, average=a)
        for a in ("tokens", "responses", "constant")
    ]
    assert len({round(v.item(), 9) for v in values}) == 3
    full = torch.ones_like(mask)
    values = [
        gr.rec_loss(now, old, advantage, full, average=a)
        for a in ("tokens", "responses", "constant")
    ]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])
    torch.testing.assert_close(values[0], gr.rec_loss(now, old, advantage))


LOSSES = {
    "rec": lambda now, old, a, mask: gr.rec_loss(now, old, a, mask),
    "ring": lambda now, old, a, mask: gr.rec_loss(now, old, a, mask, "ring", average="responses"),
    "reinforce": lambda now, old, a, mask: gr.rec_loss(now, old, a, mask, "none", False),
    "grpo": lambda now, old, a, mask: gr.grpo_loss(now, old, a, mask),
    "dr_grpo": lambda now, old, a, mask: gr.grpo_loss(now, old, a, mask, average="constant"),
    "kimi": lambda now, old, a, mask: gr.opmd_loss(now, old, a, mask),
    "paper": lambda now, old, a, mask: gr.opmd_loss(now, old, a, mask, form="paper"),
    "asymmetric": lambda now, old, a, mask: gr.asymmetric_loss(now, a, mask),
}


@pytest.mark.parametrize("name", LOSSES)
def test_padding_is_not_read_and_has_no_gradient(name):
    now, old, rewards, mask = batch(3)
    advantage = gr.group_advantages(rewards).flatten()
    clean = LOSSES[name](now, old, advantage, mask)
    assert (gradient(clean, now)[~mask] == 0).all()
    assert (gradient(clean, now)[mask] != 0).any()
    for junk in (math.nan, math.inf, -math.inf, 500.0):
        dirty = torch.where(mask, now.detach(), junk).requires_grad_()
        loss = LOSSES[name](dirty, torch.where(mask, old, -junk), advantage, mask.long())
        torch.testing.assert_close(loss, clean)
        assert (gradient(loss, dirty)[~mask] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_leading_axes_are_a_batch(name):
    parts = [batch(seed) for seed in (4, 5, 6)]
    now, old, rewards, mask = (torch.stack(list(part)) for part in zip(*parts, strict=True))
    advantage = gr.group_advantages(rewards).flatten(-2)
    together = LOSSES[name](now, old, advantage, mask)
    alone = [LOSSES[name](n, o, a, m) for n, o, a, m in zip(now, old, advantage, mask, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_opmd_is_a_square_up_to_a_constant():
    now, old, rewards, mask = batch(7)
    advantage = gr.group_advantages(rewards).flatten()
    tau = 0.3
    apart = ((now - old) * mask).sum(1)
    square = (advantage - tau * apart).square().mean() / (2 * tau)
    loss = gr.opmd_loss(now, old, advantage, mask, tau, "paper")
    torch.testing.assert_close(gradient(loss, now), gradient(square, now), rtol=0, atol=1e-12)
    # Token by token for answers of one token: twice the coefficient.
    one = now[:, :1], old[:, :1], advantage
    kimi, paper = gr.opmd_loss(*one, None, 0.1), gr.opmd_loss(*one, None, 0.2, "paper")
    torch.testing.assert_close(kimi, paper)


def test_asymmetric_loss_is_a_lower_baseline():
    now, old, rewards, mask = batch(8)
    low = gr.group_advantages(rewards, shift=0.25).flatten()
    plain = gr.group_advantages(rewards).flatten()
    theirs = gr.rec_loss(now, old, low, mask, "none", False)
    torch.testing.assert_close(gr.asymmetric_loss(now, plain, mask, 0.25), theirs)
    whole = (mask * now).sum(1)
    answers = -(low * whole).mean()
    ours = gr.asymmetric_loss(now, plain, mask, 0.25, average="constant") * now.shape[1]
    torch.testing.assert_close(ours, answers)
    assert not torch.isclose(theirs * now.shape[1], answers, rtol=1e-3)


def test_a_constant_on_the_rewards_changes_nothing():
    rewards = normal(source(9), 6, 5)
    for more in ({}, {"normalize": True}, {"shift": 0.3}):
        moved = gr.group_advantages(rewards + 7, **more)
        torch.testing.assert_close(gr.group_advantages(rewards, **more), moved)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(
        gr.group_advantages(rewards[:, order], True), gr.group_advantages(rewards, True)[:, order]
    )


def test_advantages_at_the_edge():
    one = torch.tensor([[0.7]])
    assert gr.group_advantages(one).item() == 0
    assert gr.group_advantages(one, shift=0.25).item() == 0.25
    with pytest.raises(ValueError, match="rewards"):
        gr.group_advantages(one, True)
    assert gr.group_advantages(one, True, unbiased=False).item() == 0
    equal = torch.full((2, 3), 0.1)
    assert gr.group_advantages(equal, True, epsilon=0.0).abs().max() <= 1
    assert gr.group_advantages(torch.ones(3), True, epsilon=0.0).tolist() == [0, 0, 0]


def test_the_published_deviation():
    rewards = normal(source(10), 4, 6)
    away = rewards - rewards.mean(-1, keepdim=True)
    biased = gr.group_advantages(rewards, True, epsilon=0.0, unbiased=False)
    torch.testing.assert_close(biased, away / away.square().mean(-1, keepdim=True).sqrt())
    unbiased = gr.group_advantages(rewards, True, epsilon=0.0)
    torch.testing.assert_close(unbiased, biased * math.sqrt(5 / 6))


def test_drop_balances_a_group():
    rewards = torch.tensor([[1.0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
    rewards = rewards.expand(4000, -1, -1)
    factor, baseline = gr.red_weights(rewards, "drop", generator=source(11))
    assert factor.sum(-1)[0].tolist() == [2, 6, 6]
    assert baseline[0, :, 0].tolist() == pytest.approx([0.5, 2 / 3, 0.5])
    assert (factor[:, 0, 0] == 1).all()  # no right answer is dropped
    # Every wrong one is kept as often as any other.
    torch.testing.assert_close(factor[:, 0, 1:].mean(0), torch.full((5,), 0.2), atol=0.03, rtol=0)
    same = gr.red_weights(torch.ones(3), "drop", generator=source(12))
    assert same.factor.tolist() == [1, 1, 1]


def test_masks_on_their_edges():
    edges = [1 - 0.2, 1 + 0.2, 1 - 0.6, 1 + 2.0]
    ratio = torch.tensor([*edges, 0.79, 1.21], dtype=F64)
    up, down = torch.ones(6, dtype=F64), -torch.ones(6, dtype=F64)
    expected = {
        ("one_side", 1): [1, 1, 1, 0, 1, 0],
        ("one_side", -1): [1, 1, 0, 1, 0, 1],
        ("two_side", 1): [1, 1, 0, 0, 0, 0],
        ("two_side", -1): [1, 1, 0, 0, 0, 0],
        ("ring", 1): [1, 1, 1, 0, 0, 0],
        ("ring", -1): [1, 1, 0, 1, 0, 0],
        ("none", 1): [1] * 6,
    }
    for (kind, sign), kept in expected.items():
        mask = gr.clipped_mask(ratio, up if sign > 0 else down, kind)
        assert mask.int().tolist() == kept, (kind, sign)
    zero = gr.clipped_mask(ratio, torch.zeros(6, dtype=F64), "one_side")
    assert zero.all()
    everywhere = gr.clipped_mask(ratio[:, None], torch.stack([up, down], -1), "two_side")
    assert everywhere.shape == (6, 2)


def test_a_ratio_that_overflows_is_silent_behind_the_mask():
    now = torch.tensor([[0.0, 0.0]], requires_grad=True)
    old = torch.tensor([[-200.0, 0.0]])
    advantage = torch.ones(1)
    for loss in (gr.rec_loss(now, old, advantage), gr.grpo_loss(now, old, advantage)):
        slope = gradient(loss, now)
        assert slope.isfinite().all()
        assert slope[0, 0] == 0


CALLS = {
    "rewards": [
        lambda: gr.group_advantages([1.0, 0.0]),
        lambda: gr.group_advantages(torch.tensor([1, 0])),
        lambda: gr.group_advantages(torch.tensor([math.nan, 0])),
        lambda: gr.red_weights(torch.tensor([math.inf, 0.0])),
        lambda: gr.pairwise_consistency_loss(torch.ones(3), torch.ones(2), torch.ones(2), 1.0),
    ],
    "shift": [
        lambda: gr.group_advantages(torch.ones(2), shift=math.nan),
        lambda: gr.asymmetric_loss(torch.ones(1, 2), torch.ones(1), shift=math.inf),
        lambda: gr.asymmetric_value(torch.tensor([0.5]), -0.1),
    ],
    "epsilon": [lambda: gr.group_advantages(torch.ones(2), True, epsilon=-1.0)],
    "kind": [
        lambda: gr.red_weights(torch.ones(2), "both"),
        lambda: gr.clipped_mask(torch.ones(2), torch.ones(2), "one-sided"),
        lambda: gr.rec_loss(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1), kind="two"),
    ],
    "generator": [lambda: gr.red_weights(torch.ones(2), "drop")],
    "temperature": [
        lambda: gr.red_weights(torch.ones(2), temperature=0.0),
        lambda: gr.pairwise_consistency_loss(torch.ones(2), torch.ones(2), torch.ones(2), 0.0),
        lambda: gr.opmd_limit(torch.ones(2) / 2, torch.ones(2), -1.0),
    ],
    "weights": [
        lambda: gr.pairwise_consistency_loss(*(torch.ones(2),) * 3, 1.0, torch.zeros(2)),
        lambda: gr.pairwise_consistency_loss(*(torch.ones(2),) * 3, 1.0, -torch.ones(2)),
    ],
    "ratio": [lambda: gr.clipped_mask(-torch.ones(2), torch.ones(2))],
    "low": [lambda: gr.clipped_mask(torch.ones(2), torch.ones(2), low=1.5)],
    "high": [lambda: gr.clip_stop(torch.ones(2), high=-0.1)],
    "outer_low": [lambda: gr.clipped_mask(torch.ones(2), torch.ones(2), "ring", outer_low=0.1)],
    "outer_high": [lambda: gr.clipped_mask(torch.ones(2), torch.ones(2), "ring", high=3.0)],
    "log_prob": [lambda: gr.rec_loss(torch.ones(2), torch.ones(2), torch.tensor(1.0))],
    "old_log_prob": [lambda: gr.rec_loss(torch.ones(1, 2), torch.ones(2, 2), torch.ones(1))],
    "advantage": [
        lambda: gr.rec_loss(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2)),
        lambda: gr.grpo_loss(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, dtype=F64)),
        lambda: gr.clipped_mask(torch.ones(2), torch.ones(3)),
        lambda: gr.clipped_mask(torch.ones(2), torch.full((2,), math.nan)),
    ],
    "mask": [
        lambda: gr.asymmetric_loss(torch.ones(1, 2), torch.ones(1), torch.zeros(1, 2)),
        lambda: gr.asymmetric_loss(torch.ones(1, 2), torch.ones(1), torch.tensor([[0.5, 1.0]])),
        lambda: gr.asymmetric_loss(torch.ones(1, 2), torch.ones(1), [[1, 1]]),
        lambda: gr.grpo_loss(
            torch.ones(2, 2), torch.ones(2, 2), torch.ones(2), torch.tensor([[1, 1], [0, 0]])
        ),
    ],
    "average": [lambda: gr.asymmetric_loss(torch.ones(1, 2), torch.ones(1), average="mean")],
    "form": [lambda: gr.opmd_loss(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1), form="k2")],
    "coefficient": [
        lambda: gr.opmd_loss(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1), coefficient=-0.1)
    ],
    "behaviour": [
        lambda: gr.stale_limit(torch.tensor([0.5, 0.6]), torch.ones(2)),
        lambda: gr.opmd_limit(*(torch.tensor([1.0, 0.0]),) * 2, 1.0),
    ],
    "weight": [
        lambda: gr.stale_limit(torch.ones(2) / 2, torch.ones(3)),
        lambda: gr.stale_limit(torch.ones(2) / 2, -torch.ones(2)),
    ],
    "log_policy": [
        lambda: gr.stale_step(torch.zeros(3), torch.ones(2) / 2, torch.ones(2), 0.1),
    ],
    "step_size": [
        lambda: gr.stale_step(torch.zeros(2), torch.ones(2) / 2, torch.ones(2), 0.0),
    ],
    "success": [
        lambda: gr.clip_stop(torch.tensor([1.5])),
        lambda: gr.prompt_weight(torch.tensor([1.0]), 4),
    ],
    "group": [lambda: gr.prompt_weight(torch.tensor([0.5]), 1)],
}


@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name, calls in CALLS.items() for call in calls]
)
def test_what_is_wrong_is_refused_by_name(name, call):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        call()
