"""Boosting from samples: what the released code gets wrong, and what a run must do."""

import pytest
import torch

from mdtheory.environments import CartPoleSwingup, Pendulum
from mdtheory.rl import imitation as im
from mdtheory.rl.imitation.training import ImitationRun, gradient_penalty
from mdtheory.rl.mdpo.off_policy import OffPolicyRun
from tests.rl.imitation_cases import Deadly, Line, draws, homeward

SMALL = im.ImitationSettings(
    rounds=3, updates=8, samples=10, discriminator_steps=4, batch=8, hidden=(8,), copies=4,
    evaluations=3, episodes=4,
)  # fmt: skip


def shown(seeds=2, episodes=2, environment=None):
    return im.demonstrate(environment or Line(), homeward, draws(1), seeds=seeds, episodes=episodes)


def started(seeds=2, rounds=3, **options):
    run = ImitationRun(Line(), shown(seeds), draws(2), seeds, settings=SMALL, **options)
    for _ in range(rounds):
        run.boost()
        run.learn()
    return run


def copied(members):
    return [[p.clone() for p in member] for member in members]


# Traps.


def test_members_do_not_change_when_the_policy_learns():
    """A member is a copy: parameters stored without one would all be today's policy."""
    run = started()
    before = copied(run.ensemble.members)
    live = [p.detach().clone() for p in run.policy.network.parameters]
    run.learn()
    assert not torch.equal(live[0], run.policy.network.parameters[0])
    for old, now in zip(before, run.ensemble.members, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, now, strict=True))
    # And they differ from each other, as an ensemble of aliases would not.
    assert len({member[0].flatten()[0].item() for member in run.ensemble.members}) == 3


def test_a_learner_that_comes_twice_counts_twice():
    """Weights belong to places in the list, not to values: duplicates keep theirs."""
    run = started(rounds=0, step=0.9)
    for _ in range(3):  # the policy does not learn between
        run.boost()
    assert len(run.ensemble.members) == 3
    expected = im.ensemble_weights(3, 0.9)
    torch.testing.assert_close(run.ensemble.weights, expected.expand(2, -1))
    # With a large step the first weight is the least: sorting would move it.
    assert run.ensemble.weights[0].argmin() == 0


def test_online_data_cannot_overwrite_the_weighted_samples():
    run = started()
    before = [pool.clone() for pool in run.pool]
    run.replay.rows.fill_(7.0)
    run.learn()
    assert all(torch.equal(a, b) for a, b in zip(before, run.pool, strict=True))
    for pool in run.pool:
        assert pool.untyped_storage().data_ptr() != run.replay.rows.untyped_storage().data_ptr()


def test_roll_outs_are_interactions_and_experience():
    run = started()
    assert run.spent == 3 * (10 + 16)
    assert len(run.replay) == 3 * (10 + 16)
    assert all(pool.shape == (2, 10, 2) for pool in run.pool)


# Sampling from the mixture.


def test_samples_come_by_weight():
    run = started(weighting=["boost", "uniform"], step=0.6)
    run.pool = [torch.full_like(pool, k) for k, pool in enumerate(run.pool)]
    drawn = run.draw_pairs(20_000)[..., 0]
    for seed, weights in enumerate((im.ensemble_weights(3, 0.6), torch.full((3,), 1 / 3))):
        share = torch.stack([(drawn[seed] == k).double().mean() for k in range(3)])
        deviation = (weights * (1 - weights) / 20_000).sqrt()
        assert ((share - weights).abs() < 5 * deviation).all()


def test_one_sample_a_learner_gives_the_exact_expectation():
    run = started(weighting="boost", step=0.3)
    run.pool = [pool[:, :1].expand_as(pool) for pool in run.pool]
    exact = (im.ensemble_weights(3, 0.3)[:, None, None] * torch.stack(
        [pool[:, 0].double() for pool in run.pool])).sum(0)  # fmt: skip
    mean = run.draw_pairs(40_000).double().mean(1)
    torch.testing.assert_close(mean, exact, rtol=0, atol=0.03)


def test_an_episode_has_one_learner():
    """Per episode, not per step: a drawn actor keeps to its choice."""
    run = started(weighting="uniform")
    drawn = run.ensemble.draw(50, draws(3))
    observation = torch.rand(2, 50, 1, generator=draws(4))
    first = drawn.act(observation)
    assert torch.equal(first, drawn.act(observation))
    for seed in range(2):
        for k in range(50):
            member = run.ensemble.members[int(drawn.choice[seed, k])]
            law = run.policy.law(observation[:, k : k + 1], member)
            torch.testing.assert_close(first[seed, k], law.mode()[seed, 0])
    assert drawn.choice.unique().numel() == 3


# Rewards and losses.


def test_rewards_are_those_of_todays_discriminator(monkeypatch):
    run, seen = started(rounds=1), []
    batch = run.replay.sample(8, draws(5))
    monkeypatch.setattr(
        OffPolicyRun, "improve_critic", lambda self, batch: seen.append(batch.reward)
    )
    for value in (0.5, -0.5):
        for parameter in run.discriminator.parameters:
            parameter.data.zero_()
        run.discriminator.parameters[-1].data.fill_(value)
        run.improve_critic(batch)
    for reward, value in zip(seen, (0.5, -0.5), strict=True):
        torch.testing.assert_close(reward, torch.full_like(reward, value).tanh())


def test_dated_rewards_stay():
    settings = im.ImitationSettings(**{**vars(SMALL), "relabel": False})
    run = ImitationRun(Line(), shown(), draws(2), 2, settings=settings)
    run.boost()
    before = run.replay.sample(6, draws(5)).reward
    assert (before != 0).any()
    for parameter in run.discriminator.parameters:
        parameter.data.zero_()
    assert torch.equal(run.replay.sample(6, draws(5)).reward, before)


def test_rewards_keep_to_their_bound():
    settings = im.ImitationSettings(**{**vars(SMALL), "bound": 0.25})
    run = ImitationRun(Line(), shown(), draws(2), 2, settings=settings)
    run.discriminator.parameters[-1].data.fill_(100.0)
    assert (run.judge(torch.zeros(2, 3, 2)) == 0.25).all()


def test_the_gradient_penalty_of_a_linear_judge():
    slope = torch.tensor([3.0, 4.0])
    sides = (torch.rand(2, 6, 2, generator=draws(k)) for k in range(2))
    found = gradient_penalty(lambda pairs: pairs @ slope, *sides, draws(2))
    torch.testing.assert_close(found, torch.full((2,), 16.0))


def test_a_mutant_of_the_discriminator_that_swaps_its_sides_gives_other_rewards():
    """After training, experts' pairs are worth more than those of a far learner."""
    run = started(rounds=0)
    run.boost()
    for _ in range(150):
        run.improve_discriminator()
    expert = run.judge(run.shown).mean(1)
    learner = run.judge(run.pool[0]).mean(1)
    assert (expert > learner).all()


# Runs.


def test_methods_side_by_side_share_nothing_but_the_program():
    """The weights and losses of one slice are its own; shapes are those of all."""
    weighting = ["boost", "uniform", "last"]
    record = im.train_ail_boost(
        Line(), shown(3), draws(2), seeds=3, weighting=weighting, step=[0.2, 0.0, 0.0],
        loss=["reverse_kl", "logistic", "reverse_kl"], settings=SMALL,
    )  # fmt: skip
    assert record.last.shape == record.ensemble.shape == record.divergence.shape == (4, 3)
    torch.testing.assert_close(record.members.weights[0], im.ensemble_weights(4, 0.2))
    torch.testing.assert_close(record.members.weights[1], torch.full((4,), 0.25).double())
    assert record.members.weights[2].tolist() == [0, 0, 0, 1]
    assert record.divergence[:, 1].isnan().all()
    assert not record.divergence[:, ::2].isnan().any()


def test_the_same_generator_gives_the_same_run():
    runs = [
        im.train_ail_boost(Line(), shown(), draws(2), seeds=2, settings=SMALL) for _ in range(2)
    ]
    assert torch.equal(runs[0].last, runs[1].last)
    assert torch.equal(runs[0].ensemble, runs[1].ensemble)


@pytest.mark.parametrize("deploy", ["ensemble", "last"])
def test_what_is_deployed(deploy):
    record = im.train_ail_boost(Line(), shown(), draws(2), seeds=2, deploy=deploy, settings=SMALL)
    assert (record.policy is record.members) == (deploy == "ensemble")


def test_boosting_learns_the_line():
    """A tiny task in seconds: the newest policy comes nearer to the expert than it started."""
    settings = im.ImitationSettings(
        rounds=14, updates=100, samples=20, discriminator_steps=30, batch=32, hidden=(16,),
        penalty=1.0, evaluations=2, episodes=30,
    )  # fmt: skip
    data = shown(6, 4)
    record = im.train_ail_boost(Line(), data, draws(3), seeds=6, step=0.3, settings=settings)
    expert = data.returns.mean()
    away = expert - record.last.mean(1)
    assert away[-1] < 0.7 * away[0]


# Rivals.


@pytest.mark.parametrize(
    ("rival", "steps", "most"), [(im.behaviour_clone, 600, 0.15), (im.value_dice, 1200, 0.5)]
)
def test_offline_rivals_imitate_where_nothing_is_unseen(rival, steps, most):
    settings = im.ImitationSettings(penalty=1.0)
    policy = rival(Line(), shown(3, 20), draws(2), seeds=3, steps=steps, settings=settings)
    grid = torch.linspace(-0.9, 0.9, 19)[:, None].expand(3, -1, -1)
    away = (policy.act(grid) - homeward(grid)).abs().mean((1, 2))
    assert away.quantile(0.5) < most


def test_iq_learn_runs_and_moves():
    settings = im.ImitationSettings(**{**vars(SMALL), "updates": 40})
    before = im.iq_learn(Line(), shown(), draws(2), seeds=2,
                         settings=im.ImitationSettings(**{**vars(SMALL), "rounds": 1}))  # fmt: skip
    after = im.iq_learn(Line(), shown(), draws(2), seeds=2, settings=settings)
    assert not torch.equal(before.network.parameters[0], after.network.parameters[0])


# Worlds, experts and demonstrations.


@pytest.mark.parametrize("environment", [Pendulum(), CartPoleSwingup()])
def test_scripted_experts_do_the_task(environment):
    expert = im.scripted_expert(environment)
    data = im.demonstrate(environment, expert, draws(1), seeds=2, episodes=20)
    generator = draws(3)

    def guess(observation):
        return 2 * torch.rand(*observation.shape[:-1], 1, generator=generator) - 1

    random = im.demonstrate(environment, guess, draws(2), seeds=2, episodes=20)
    assert (data.returns.mean(1) > random.returns.mean(1) + 150).all()
    assert data.action.abs().max() <= 1


def test_demonstrations_are_whole_episodes_in_order():
    data = shown(2, 3)
    assert data.observation.shape == (2, 15, 1)
    assert data.returns.shape == (2, 3)
    steps = [part.unflatten(1, (3, 5)) for part in data[:3]]
    torch.testing.assert_close(steps[0][:, :, 1:], steps[2][:, :, :-1])
    torch.testing.assert_close(steps[1], homeward(steps[0]))


def test_terminal_states_are_refused():
    """Without absorbing states the length of an episode would give away who acted."""
    with pytest.raises(ValueError, match="environment: expected episodes that only a time limit"):
        im.demonstrate(Deadly(), lambda o: torch.ones_like(o), draws(1), seeds=2, episodes=3)
    with pytest.raises(ValueError, match="environment: expected episodes that only a time limit"):
        im.train_ail_boost(
            Deadly(), shown(2), draws(1), seeds=2,
            settings=im.ImitationSettings(**{**vars(SMALL), "samples": 200}),
        )  # fmt: skip
