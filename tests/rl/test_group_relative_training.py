"""Arithmetic, stale versions, and training of all algorithms and seeds at once."""

import itertools
import math

import pytest
import torch

from mdtheory.rl import group_relative as gr
from mdtheory.rl.group_relative.training import ALGORITHMS, Answers
from tests.rl.group_relative_cases import F64, normal, source


def parameters(network):
    return [p.detach().clone() for p in network.parameters]


# The task.


@pytest.mark.parametrize("size", [2, 5, 10, 20])
def test_answers_are_products(size):
    task = gr.Products(size)
    for a, b in itertools.product(range(size), repeat=2):
        digits = task.answers[a * size + b].tolist()
        assert int("".join(map(str, digits))) == a * b
    assert task.prompts == size**2
    assert task.length == len(str((size - 1) ** 2))


def test_policies_read_the_prompt_and_earlier_digits_alone():
    task = gr.Products(20)
    prompts = torch.tensor([[7, 399]])
    tokens = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    rows = task.inputs(prompts, tokens)
    assert rows.shape == (1, 2, 3, task.features)
    # Two factors, a place, and as many digits as came before.
    assert rows.sum(-1).tolist() == [[[3, 4, 5], [3, 4, 5]]]
    last = rows[0, 1, 2].nonzero()[:, 0].tolist()
    assert last == [19, 20 + 19, 40 + 2, 43 + 4, 43 + 10 + 5]
    later = tokens.clone()
    later[..., 2] = 9
    assert torch.equal(rows, task.inputs(prompts, later))


def test_samples_follow_the_policy():
    task, g = gr.Products(3), source(0)
    network = task.policy(1, g, hidden=(8,))
    with torch.no_grad():
        for p in network.parameters:
            p.mul_(20)
    n = 60_000
    prompts = torch.full((1, n), 5)
    uniform = torch.rand(1, n, task.length, generator=g)
    tokens, log_prob, rows = task.sample(network, prompts, uniform)
    assert torch.equal(rows, task.inputs(prompts, tokens))
    law = task.log_probs(network, rows)
    again = law.gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(log_prob, again.detach(), atol=1e-5, rtol=1e-5)
    counts = torch.bincount(tokens[0, :, 0], minlength=10) / n
    torch.testing.assert_close(counts, law[0, 0, 0].exp().detach(), atol=0.01, rtol=0)


def test_measures_are_exact():
    task, g = gr.Products(4), source(1)
    network = task.policy(2, g, hidden=(8,))
    with torch.no_grad():
        for p in network.parameters:
            p.mul_(5)
    measures = task.measure(network)
    # The value by enumeration of all answers.
    digits = list(itertools.product(range(10), repeat=task.length))
    everything = torch.tensor(digits).expand(2, -1, -1)
    value = torch.zeros(2)
    for prompt in range(task.prompts):
        prompts = torch.full((2, len(digits)), prompt)
        law = task.log_probs(network, task.inputs(prompts, everything)).detach()
        chance = law.gather(-1, everything[..., None])[..., 0].sum(-1).exp()
        torch.testing.assert_close(chance.sum(-1), torch.ones(2))
        value += (chance * task.reward(prompts, everything)).sum(-1)
    torch.testing.assert_close(measures.value, value / task.prompts)


def test_imitation_teaches():
    task, g = gr.Products(4), source(2)
    network = task.policy(2, g, hidden=(16,))
    before = task.measure(network)
    gr.imitate(task, network, 150, g, noise=0.0)
    after = task.measure(network)
    assert (after.value > before.value + 0.3).all()
    assert (after.greedy > 0.7).all()


# Versions.


def test_versions_step_by_step():
    assert gr.stale_versions(7, 1) == [0, 1, 2, 3, 4, 5, 6]
    assert gr.stale_versions(7, 3) == [0, 0, 0, 3, 3, 3, 6]
    assert gr.stale_versions(9, 3, 2) == [0, 0, 0, 0, 0, 3, 3, 3, 6]
    assert gr.stale_versions(5, 1, 2) == [0, 0, 0, 1, 2]
    assert gr.stale_versions(4, math.inf) == [0, 0, 0, 0]
    assert gr.stale_versions(4, 2.0) == [0, 0, 2, 2]
    assert gr.stale_versions(0, 5) == []


@pytest.mark.parametrize("offset", [0, 1, 7])
@pytest.mark.parametrize("interval", [1, 4, 20])
def test_versions_as_defined(interval, offset):
    for k, version in enumerate(gr.stale_versions(50, interval, offset)):
        copies = [v for v in range(0, 51, interval) if v + offset <= k]
        assert version == max([0, *copies])


# Training.

FEW = ["REINFORCE", "GRPO", "REC-1S", "REC-1S-IS", "REC-Ring", "AsymRE", "RED-Drop"]


def train(algorithms, versions, seeds=2, seed=3, **more):
    settings = {"base_steps": 20, "prompts": 4, "group": 4, "hidden": (8,), "every": 5, **more}
    return gr.train_group_relative(
        algorithms, versions, seeds, source(seed), task=gr.Products(4), **settings
    )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_loss_of_every_algorithm(name):
    """Of each name, from its formula, token by token."""
    g = source(4)
    old = -normal(g, 2, 3, 4, 5).abs()
    now = (old + 0.6 * normal(g, 2, 3, 4, 5)).requires_grad_()
    rewards = (normal(g, 2, 3, 4) > 0).to(F64)
    loss = ALGORITHMS[name](Answers(now, old, rewards, source(5)))
    assert loss.shape == (2,)
    away = rewards - rewards.mean(-1, keepdim=True)
    advantage = {
        "GRPO": away / (rewards.std(-1, keepdim=True) + 1e-6),
        "AsymRE": away + 0.1,
        "RED-Weight": away.exp() * away,
        "RED-Weight centred": away.exp()
        * (rewards - (away.exp() * rewards).sum(-1, True) / away.exp().sum(-1, True)),
    }.get(name, away)
    if name == "RED-Drop":
        keep, baseline = gr.red_weights(rewards, "drop", generator=source(5))
        advantage = keep * (rewards - baseline)
    a, ratio = advantage[..., None].expand_as(now), (now.detach() - old).exp()
    low, high = (0.6, 2.0) if "wide" in name else (0.2, 0.2)
    weight = a * ratio if name == "GRPO" or name.endswith("IS") else a
    inside = (ratio >= 1 - low) & (ratio <= 1 + high)
    pulls_back = ((a > 0) & (ratio <= 1 - low)) | ((a < 0) & (ratio >= 1 + high))
    far = (ratio <= 0.4) | (ratio >= 3)
    if name == "GRPO" or "1S" in name:
        weight = torch.where(inside | pulls_back | (a == 0), weight, 0)
    elif "2S" in name:
        weight = torch.where(inside, weight, 0)
    elif "Ring" in name:
        weight = torch.where(inside | (pulls_back & far), weight, 0)
    expected = -(weight * now).mean((1, 2, 3))
    if name == "OPMD-Kimi":
        expected = expected + 0.1 * (now - old).square().mean((1, 2, 3))
    if name == "OPMD-paper":
        expected = expected + 0.05 * (now - old).sum(-1).square().mean((1, 2)) / 5
    torch.testing.assert_close(loss, expected)


def test_shapes_and_start():
    record = train(FEW, gr.stale_versions(12, 4), seeds=3)
    assert record.steps == [0, 5, 10, 12]
    for part in record[1:]:
        assert part.shape == (4, len(FEW), 3)
        assert part.isfinite().all()
    # All algorithms of a seed begin with one policy, other seeds with others.
    for part in record[1:4]:
        assert (part[0] == part[0, :1]).all()
    assert len(set(record.value[0, 0].tolist())) == 3


def test_runs_are_repeated_by_their_generator_and_know_nothing_of_each_other():
    versions = gr.stale_versions(10, 3)
    one, two = train(FEW, versions), train(FEW, versions)
    for left, right in zip(one[1:], two[1:], strict=True):
        assert torch.equal(left, right)
    fewer = train(["GRPO", "RED-Drop"], versions)
    for left, right in zip(one[1:], fewer[1:], strict=True):
        torch.testing.assert_close(left[:, [1, 6]], right, atol=1e-4, rtol=1e-3)


def test_on_policy_all_masks_are_reinforce():
    record = train(FEW, gr.stale_versions(15, 1))
    for k in (2, 3, 4):
        torch.testing.assert_close(record.value[:, k], record.value[:, 0], atol=0, rtol=0)
    assert (record.drift == 0).all()
    stale = train(FEW, gr.stale_versions(15, 5), learning_rate=0.05)
    assert (stale.value[-1, 2] != stale.value[-1, 0]).any()
    assert (stale.drift[1:] > 0).all()


def test_versions_are_used():
    """A version that lags behind by one step is another run than none that does."""
    lag = [0, *range(14)]
    assert not torch.equal(
        train(["REINFORCE"], lag).value, train(["REINFORCE"], list(range(15))).value
    )
    ahead = [0] * 5 + [3] * 10
    assert train(["REINFORCE"], ahead).value.isfinite().all()


def test_training_against_a_loop_over_one_run():
    """The program, beside a loop that trains one policy at a time by the public functions."""
    steps, seeds = 6, 2
    versions = gr.stale_versions(steps, 2)
    record = train(["GRPO", "AsymRE"], versions, seeds, every=1, clip=0.05)
    g, task = source(3), gr.Products(4)
    base = task.policy(seeds, g, hidden=(8,))
    gr.imitate(task, base, 20, g, noise=0.3)
    torch.randint(2**62, (), generator=g)
    draws = [
        (torch.randint(16, (seeds, 4), generator=g), torch.rand(seeds, 16, 1, generator=g))
        for _ in range(steps)
    ]
    for seed, name in itertools.product(range(seeds), ("GRPO", "AsymRE")):
        policy = task.policy(1, source(0), hidden=(8,))
        for mine, start in zip(policy.parameters, base.parameters, strict=True):
            mine.data = start[seed : seed + 1].detach().clone()
        optimizer, saved = torch.optim.Adam(policy.parameters, lr=3e-3), {0: parameters(policy)}
        for k, (asked, uniform) in enumerate(draws):
            asked = asked[seed].repeat_interleave(4)[None]
            tokens, old, rows = task.sample(policy, asked, uniform[seed][None], saved[versions[k]])
            now = task.log_probs(policy, rows).gather(-1, tokens[..., None])[..., 0]
            rewards = task.reward(asked, tokens).reshape(4, 4)
            advantage = gr.group_advantages(rewards, name == "GRPO").reshape(1, 16)
            loss = (
                gr.grpo_loss(now, old, advantage)
                if name == "GRPO"
                else gr.asymmetric_loss(now, advantage)
            )
            optimizer.zero_grad()
            loss.sum().backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters, 0.05)
            optimizer.step()
            saved[k + 1] = parameters(policy)
            value = record.value[k + 1, ("GRPO", "AsymRE").index(name), seed]
            torch.testing.assert_close(task.measure(policy).value[0], value, atol=1e-4, rtol=1e-3)


def test_staleness_hurts_the_unclipped_one():
    """The live experiment of the chapter, shorter: what clipping is for."""
    names = ["REINFORCE", "GRPO", "REC-1S", "REC-1S-IS"]
    fresh, stale = (
        gr.train_group_relative(names, gr.stale_versions(200, n), 6, source(6)).value[-1]
        for n in (1, 20)
    )
    assert (stale[1] - stale[0]).mean() > 0.08
    assert (fresh[1] - fresh[0]).mean().abs() < 0.03
    assert (stale[2] - stale[3]).mean().abs() < 0.02


REFUSED = {
    "algorithms": [lambda: train("GRPO", [0]), lambda: train(["PPO"], [0]), lambda: train([], [0])],
    "versions": [
        lambda: train(["GRPO"], [1]),
        lambda: train(["GRPO"], [0, 1, 0]),
        lambda: train(["GRPO"], [0, 0.5]),
    ],
    "seeds": [lambda: train(["GRPO"], [0], seeds=0)],
    "group": [lambda: train(["GRPO"], [0], group=1)],
    "prompts": [lambda: train(["GRPO"], [0], prompts=0)],
    "every": [lambda: train(["GRPO"], [0], every=0)],
    "learning_rate": [lambda: train(["GRPO"], [0], learning_rate=0.0)],
    "clip": [lambda: train(["GRPO"], [0], clip=-1.0)],
    "noise": [lambda: train(["GRPO"], [0], noise=1.5)],
    "size": [lambda: gr.Products(1)],
    "steps": [lambda: gr.stale_versions(-1, 2)],
    "interval": [
        lambda: gr.stale_versions(3, 0),
        lambda: gr.stale_versions(3, 1.5),
        lambda: gr.stale_versions(3, -math.inf),
    ],
    "offset": [lambda: gr.stale_versions(3, 2, -1)],
    "network": [
        lambda: gr.imitate(gr.Products(4), gr.Products(5).policy(1, source(0)), 1, source(0))
    ],
}


@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name, calls in REFUSED.items() for call in calls]
)
def test_what_is_wrong_is_refused_by_name(name, call):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        call()
