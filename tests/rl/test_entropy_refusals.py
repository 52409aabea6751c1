"""Bad input is refused where it enters, with the argument's name."""

import math

import pytest
import torch

from mdtheory.rl import entropy as en

ENTROPY, MASK, LOSS = torch.ones(2, 3, 2), torch.ones(2, 3, 2), torch.zeros(())


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("entropy", lambda: en.trajectory_entropy([[1.0]], MASK)),
        ("entropy", lambda: en.trajectory_entropy(torch.ones(3, dtype=torch.int64), MASK)),
        ("entropy", lambda: en.trajectory_entropy(torch.ones(3), torch.ones(3))),
        ("entropy", lambda: en.trajectory_entropy(torch.ones(0, 3), torch.ones(0, 3))),
        ("mask", lambda: en.trajectory_entropy(ENTROPY, torch.ones(3, 3))),
        ("mask", lambda: en.trajectory_entropy(ENTROPY, 0.5 * MASK)),
        ("mask", lambda: en.trajectory_entropy(ENTROPY, torch.zeros(2, 3, 2))),
        ("mask", lambda: en.trajectory_entropy(ENTROPY, [[1]])),
        ("mask", lambda: en.trajectory_entropy(ENTROPY[0], torch.ones(2, 3, 2))),
        ("entropy", lambda: en.corridor_penalty(1.0, 1.0, 0.5, 1.5)),
        ("reference", lambda: en.corridor_penalty(ENTROPY, -1.0, 0.5, 1.5)),
        ("reference", lambda: en.corridor_penalty(ENTROPY, math.nan, 0.5, 1.5)),
        ("low", lambda: en.corridor_penalty(ENTROPY, 1.0, -0.5, 1.5)),
        ("high", lambda: en.corridor_penalty(ENTROPY, 1.0, 1.5, 0.5)),
        ("kind", lambda: en.corridor_penalty(ENTROPY, 1.0, 0.5, 1.5, "hinge")),
        ("step", lambda: en.phase_weight(-1, 10)),
        ("step", lambda: en.phase_weight(11, 10)),
        ("steps", lambda: en.phase_weight(0, 1)),
        ("decay", lambda: en.phase_weight(0, 10, -1.0)),
        ("policy_loss", lambda: en.epo_loss(0.0, ENTROPY, MASK, 1.0, 1.0, 0.1, 0.1)),
        ("policy_loss", lambda: en.epo_loss(torch.zeros(3), ENTROPY, MASK, 1.0, 1.0, 0.1, 0.1)),
        ("policy_loss", lambda: en.epo_loss(LOSS.double(), ENTROPY, MASK, 1.0, 1.0, 0.1, 0.1)),
        ("entropy", lambda: en.epo_loss(LOSS, ENTROPY[0], MASK[0], 1.0, 1.0, 0.1, 0.1)),
        ("reference", lambda: en.epo_loss(LOSS, ENTROPY, MASK, -1.0, 1.0, 0.1, 0.1)),
        ("weight", lambda: en.epo_loss(LOSS, ENTROPY, MASK, 1.0, -1.0, 0.1, 0.1)),
        ("coefficient", lambda: en.epo_loss(LOSS, ENTROPY, MASK, 1.0, 1.0, -0.1, 0.1)),
        ("penalty", lambda: en.epo_loss(LOSS, ENTROPY, MASK, 1.0, 1.0, 0.1, math.inf)),
        ("penalty", lambda: en.epo_loss(LOSS, ENTROPY, MASK, 1.0, 1.0, 0.1, torch.ones(2))),
        ("kind", lambda: en.epo_loss(LOSS, ENTROPY, MASK, 1.0, 1.0, 0.1, 0.1, kind="l2")),
        ("entropy", lambda: en.net_coefficient(1.0, 1.0, 1.0, 1.0, 1.0)),
        ("kind", lambda: en.net_coefficient(ENTROPY, 1.0, 1.0, 1.0, 1.0, kind="l2")),
        ("logits", lambda: en.entropy_gradient(1.0)),
        ("steps", lambda: en.silent_flow(torch.zeros(3), 0, 0.1, 1.0, 0.5)),
        ("step_size", lambda: en.silent_flow(torch.zeros(3), 2, 0.0, 1.0, 0.5)),
        ("strength", lambda: en.silent_flow(torch.zeros(3), 2, 0.1, 1.0, -0.5)),
        ("seeds", lambda: en.LockChain(0, 3, 2, generator())),
        ("turns", lambda: en.LockChain(1, 0, 2, generator())),
        ("locks", lambda: en.LockChain(1, 3, 0, generator())),
        ("verbs", lambda: en.LockChain(1, 3, 2, generator(), verbs=0)),
        ("log_policy", lambda: en.LockChain(1, 3, 2, generator()).success(torch.zeros(1, 24, 39))),
        ("coefficient", lambda: en.LockChain(1, 3, 2, generator()).optimum(-0.1)),
        ("factor", lambda: en.bounds.window_growth(0.0, 3)),
        ("window", lambda: en.bounds.window_growth(1.5, 0)),
        ("updates", lambda: en.bounds.reference_growth(torch.zeros(2), 1.5)),
        ("turns", lambda: en.bounds.deviation_bound(1.0, 0.5, 1.5, 0, 2.0)),
        ("answers", lambda: en.bounds.one_hot_bias(1.0, 1.0)),
    ],
)
def test_refused_by_name(name, call):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected"):
        call()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("modes", {"modes": []}),
        ("modes", {"modes": [{"coefficient": 0.1}]}),
        ("coefficient", {"modes": [en.Mode(-0.1)]}),
        ("high", {"modes": [en.Mode(low=2.0)]}),
        ("kind", {"modes": [en.Mode(kind="l2")]}),
        ("reference", {"modes": [en.Mode(reference="last")]}),
        ("rate", {"modes": [en.Mode(rate=0.0)]}),
        ("seeds", {"seeds": 0}),
        ("updates", {"updates": 1}),
        ("group", {"group": 1}),
        ("epochs", {"epochs": 1.0}),
        ("learning_rate", {"learning_rate": 0.0}),
        ("clip", {"clip": -0.1}),
        ("world", {"world": en.LockChain(3, 4, 2, generator())}),
    ],
)
def test_training_refuses_by_name(name, options):
    given = {"modes": [en.Mode()], "seeds": 2, "updates": 2, "generator": generator()} | options
    modes, seeds, updates = (given.pop(key) for key in ("modes", "seeds", "updates"))
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected"):
        en.train_multi_turn(modes, seeds, updates, **given)
