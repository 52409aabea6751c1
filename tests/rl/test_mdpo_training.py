"""On-policy training."""

import pytest
import torch

from mdtheory.environments import Environment, TimeStep, World
from mdtheory.rl.mdpo import (
    ALGORITHMS,
    CartPole,
    Gaussian,
    OnPolicySettings,
    Pendulum,
    Policy,
    evaluate,
    train_off_policy,
    train_on_policy,
    trust_region_step,
)
from mdtheory.rl.mdpo.on_policy import OnPolicyRun
from tests.rl.mdpo_training_cases import Killed, die_at, source

SMALL = OnPolicySettings(copies=4, horizon=16, hidden=(8,), critic_epochs=2, critic_batch=32)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


# --------------------------------------------------------------------------------------- training


class Corridor(Environment):
    """One state; action 1 pays 1. Episodes of three steps, then the step that resets."""

    observed, actions, discrete = 1, 2, True

    def start(self, seeds, copies, generator):
        return _CorridorWorld(seeds, copies)


class _CorridorWorld(World):
    def __init__(self, seeds, copies):
        self.shape = (seeds, copies)

    def reset(self):
        self.clock = 0
        return torch.ones(*self.shape, 1)

    def step(self, action):
        fresh = self.clock == 3
        self.clock = 0 if fresh else self.clock + 1
        no = torch.zeros(self.shape, dtype=torch.bool)
        reward = torch.zeros(self.shape) if fresh else action.float()
        return TimeStep(torch.ones(*self.shape, 1), reward, no | (self.clock == 3), no)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_learns_what_pays(algorithm):
    settings = OnPolicySettings(
        copies=8, horizon=32, hidden=(8,), policy_learning_rate=0.01, step_size=3.0, radius=0.05
    )
    record = train_on_policy(
        Corridor(), 40 * 256, source(), algorithm=algorithm, seeds=3, settings=settings
    )
    assert record.returns.shape == (40, 3)
    assert (record.returns[0] < 2.2).all()
    assert (record.returns[-1] > 2.7).all()
    # Every fourth step only resets.
    assert record.interactions[-1].tolist() == [40 * 256 * 3 // 4] * 3
    assert (record.divergences >= -1e-6).all()
    assert evaluate(record.policy, Corridor(), source(), episodes=3).tolist() == [3.0] * 3
    drawn = evaluate(record.policy, Corridor(), source(), episodes=50, greedy=False)
    assert (drawn > 2.5).all()


def test_a_step_that_only_resets_changes_nothing():
    """Whatever the action of such a step, the run is the same."""

    class Ignorant(_CorridorWorld):
        def step(self, action):
            moment = super().step(action)
            return moment._replace(reward=moment.reward + 1e3 * (self.clock == 0))

    class Loud(Corridor):
        def start(self, seeds, copies, generator):
            return Ignorant(seeds, copies)

    quiet = train_on_policy(Corridor(), 128, source(), seeds=2, settings=SMALL)
    loud = train_on_policy(Loud(), 128, source(), seeds=2, settings=SMALL)
    for mine, its in zip(quiet.policy.parameters, loud.policy.parameters, strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("environment", [CartPole(), Pendulum(), "CartPole-v1"],
                         ids=["cartpole", "pendulum", "gymnasium"])  # fmt: skip
def test_the_same_generator_gives_the_same_run(algorithm, environment):
    settings = OnPolicySettings(**{**vars(SMALL), "normalize": True, "policy_batch": 24})
    first, second = (
        train_on_policy(environment, 130, source(), algorithm=algorithm, seeds=2, settings=settings)
        for _ in range(2)
    )
    assert first.interactions.shape == (2, 2)
    assert first.interactions[-1].max() <= 128
    for mine, its in zip(first.policy.parameters, second.policy.parameters, strict=True):
        assert torch.equal(mine, its)
        assert mine.isfinite().all()
        assert not torch.equal(mine[0], mine[1]) or mine.ndim == 3  # seeds have their own


def test_one_policy_step_is_a_policy_gradient_step_whatever_the_divergence():
    """m = 1: step size, order and direction do not show."""
    runs = [
        train_on_policy(
            CartPole(), 64, source(), seeds=2,
            settings=OnPolicySettings(**{**vars(SMALL), "policy_steps": 1, **change}),
        )
        for change in ({}, {"step_size": 1e-3}, {"order": 2.0}, {"direction": "old-new"})
    ]  # fmt: skip
    for other in runs[1:]:
        for mine, its in zip(runs[0].policy.parameters, other.policy.parameters, strict=True):
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-6)
    ten = train_on_policy(CartPole(), 64, source(), seeds=2, settings=SMALL)
    assert not torch.allclose(ten.policy.parameters[0], runs[0].policy.parameters[0], atol=1e-4)


def test_the_divergence_holds_the_policy_back():
    def moved(**changes):
        settings = OnPolicySettings(**{**vars(SMALL), "policy_learning_rate": 0.01, **changes})
        return train_on_policy(CartPole(), 64, source(), seeds=2, settings=settings).divergences

    assert (moved(step_size=1e-2) < 0.5 * moved(step_size=100.0)).all()


@pytest.mark.parametrize("environment", [CartPole(), Pendulum()], ids=["discrete", "continuous"])
def test_the_trust_region_is_kept(environment):
    policy = Policy(environment, 3, (8,), source())
    seen, generator = torch.randn(3, 60, environment.observed, generator=source()), source(3)
    action = policy.law(seen).sample(generator).detach()
    advantage = torch.randn(3, 60, generator=generator)
    advantage[2] = 0
    weight = torch.ones(3, 60)
    old = policy.law(seen).detach()
    taken = trust_region_step(policy, seen, action, advantage, weight, radius=0.02)
    new = policy.law(seen).detach()
    distance = old.kl(new).mean(-1)
    gain = ((new.log_prob(action) - old.log_prob(action)).exp() * advantage).mean(-1)
    assert (taken[:2] > 0).all()
    assert (distance[:2] <= 0.02 + 1e-6).all()
    assert (distance[:2] > 0.005).all()
    assert (gain[:2] > advantage.mean(-1)[:2]).all()
    assert taken[2] == 0
    assert distance[2].abs() < 1e-9


@pytest.mark.parametrize("environment", [CartPole(), Pendulum()], ids=["discrete", "continuous"])
def test_the_old_law_stays_when_the_policy_is_changed_in_place(environment):
    policy = Policy(environment, 2, (4,), source())
    seen = torch.randn(2, 5, environment.observed, generator=source())
    with torch.no_grad():
        law = policy.law(seen)
        before = [part.clone() for part in law]
        for parameter in policy.parameters:
            parameter.add_(1.0)
        assert all(torch.equal(a, b) for a, b in zip(before, law, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(before, policy.law(seen), strict=True))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_recorded_divergence_is_that_of_the_policies(algorithm):
    """Mean and deviation both count."""
    run = OnPolicyRun(Pendulum(), 64, source(), algorithm, 2, SMALL)
    keep = {}
    improve = run.improve_policy

    def remember(batch):
        keep["seen"], keep["weight"] = batch.seen, batch.weight
        keep["old"] = [part.clone() for part in run.policy.law(batch.seen).detach()]
        improve(batch)

    run.improve_policy = remember
    run.iterate()
    old, new = Gaussian(*keep["old"]), run.policy.law(keep["seen"]).detach()
    assert not torch.equal(old.log_std, new.log_std)
    expected = (keep["weight"] * new.kl(old)).sum(-1) / keep["weight"].sum(-1)
    torch.testing.assert_close(run.record().divergences[0], expected)


def test_the_direction_of_the_divergence_makes_a_difference_after_one_step():
    runs = [
        train_on_policy(
            Pendulum(), 64, source(), seeds=2,
            settings=OnPolicySettings(**{**vars(SMALL), "policy_learning_rate": 0.02, **change}),
        )
        for change in ({}, {"direction": "old-new"})
    ]  # fmt: skip
    assert not torch.equal(runs[0].policy.log_std, runs[1].policy.log_std)


@pytest.mark.parametrize("environment", [CartPole(), "Pendulum-v1"], ids=["ours", "gymnasium"])
@pytest.mark.parametrize("algorithm", ["mdpo", "trpo"])
def test_a_killed_run_gives_the_same_numbers(tmp_path, environment, algorithm):
    settings = OnPolicySettings(**{**vars(SMALL), "normalize": True, "restart_every": 2})

    def run(name, **more):
        return train_on_policy(
            environment, 7 * 64, source(), algorithm=algorithm, seeds=2, settings=settings,
            checkpoint=tmp_path / name, **more,
        )  # fmt: skip

    whole = run("whole")
    with pytest.raises(Killed):
        run("part", on_iteration=die_at(5))
    resumed = run("part")
    for name in ("interactions", "returns", "divergences"):
        mine, its = getattr(whole, name), getattr(resumed, name)
        assert torch.equal(mine.nan_to_num(-1), its.nan_to_num(-1))
    for mine, its in zip(whole.policy.parameters, resumed.policy.parameters, strict=True):
        assert torch.equal(mine, its)
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run"
    train_on_policy(CartPole(), 64, source(), seeds=2, settings=SMALL, checkpoint=path)
    with pytest.raises(ValueError, match=r"^checkpoint: expected a run of"):
        train_on_policy(CartPole(), 64, source(), seeds=3, settings=SMALL, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"^checkpoint: expected a checkpoint"):
        train_on_policy(CartPole(), 64, source(), seeds=2, settings=SMALL, checkpoint=path)


@pytest.mark.parametrize(
    "changes",
    [
        {"policy_batch": 16}, {"order": 1.5}, {"value_clip": 1e-4}, {"schedule": "square-root"},
        {"critic_batch": None},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_settings_make_a_difference(changes):
    def run(**more):
        settings = OnPolicySettings(**{**vars(SMALL), "policy_learning_rate": 0.01, **more})
        record = train_on_policy(Pendulum(), 128, source(), seeds=1, settings=settings)
        return torch.cat([p.detach().flatten() for p in record.policy.parameters])

    assert not torch.equal(run(), run(**changes))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"copies": 0}, "copies"), ({"policy_steps": 0}, "policy_steps"),
        ({"policy_batch": 0}, "policy_batch"),
        ({"policy_learning_rate": 0.0}, "policy_learning_rate"),
        ({"discount": 1.5}, "discount"), ({"clip_range": 1.0}, "clip_range"),
        ({"order": 0.5}, "order"), ({"value_clip": 0.0}, "value_clip"),
        ({"direction": "both"}, "direction"), ({"schedule": "none"}, "schedule"),
        ({"hidden": (0,)}, "hidden"),
    ],
)  # fmt: skip
def test_on_policy_settings_refuse_by_name(changes, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        OnPolicySettings(**changes)


def test_training_refuses_by_name():
    with pytest.raises(ValueError, match=r"^algorithm: expected"):
        train_on_policy(CartPole(), 4096, source(), algorithm="reinforce")
    with pytest.raises(TypeError, match=r"^environment: expected"):
        train_on_policy(3, 4096, source())
    with pytest.raises(ValueError, match=r"^environment: expected continuous"):
        train_off_policy(CartPole(), 100, source())
    with pytest.raises(ValueError, match=r"^total_steps: expected"):
        train_on_policy(CartPole(), 2047, source())
    with pytest.raises(ValueError, match=r"^seeds: expected"):
        train_on_policy(CartPole(), 4096, source(), seeds=0)
    with pytest.raises(ValueError, match=r"^episodes: expected"):
        evaluate(Policy(CartPole(), 1, (4,), source()), CartPole(), source(), episodes=0)


def test_mdpo_learns_to_balance():
    settings = OnPolicySettings(copies=16, horizon=128, critic_learning_rate=1e-3)
    run = OnPolicyRun(CartPole(), 24 * 2048, source(), "mdpo", 3, settings)
    for _ in range(24):
        run.iterate()
    returns = run.record().returns
    assert returns[0].max() < 35
    assert returns[-1].quantile(0.5) > 90
