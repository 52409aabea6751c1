"""Off-policy training."""

import pytest
import torch

from mdtheory.environments import Environment, TimeStep, World
from mdtheory.rl.mdpo import (
    OffPolicySettings,
    Pendulum,
    evaluate,
    train_off_policy,
)
from mdtheory.rl.mdpo.off_policy import OffPolicyRun
from tests.rl.mdpo_training_cases import Killed, die_at, source

TINY = OffPolicySettings(batch=16, warm_up=20, hidden=(8,), old_every=10, record_every=25,
                         capacity=60, restart_every=20)  # fmt: skip


def test_with_equal_coefficients_training_is_sac():
    """c = lambda: the old policy is out of the game, however old it is."""
    settings = OffPolicySettings(**{**vars(TINY), "divergence_weight": 0.7, "entropy_weight": 0.7})
    plain = OffPolicySettings(**{**vars(TINY), "entropy_weight": 0.7}).sac()
    assert plain == settings
    other = OffPolicySettings(**{**vars(settings), "old_every": 1})
    runs = [train_off_policy(Pendulum(), 60, source(), seeds=2, settings=s)
            for s in (settings, other)]  # fmt: skip
    for mine, its in zip(*(r.policy.network.parameters for r in runs), strict=True):
        assert torch.equal(mine, its)
    unequal = OffPolicySettings(**{**vars(settings), "divergence_weight": 1.5})
    moved = train_off_policy(Pendulum(), 60, source(), seeds=2, settings=unequal)
    assert not torch.equal(moved.policy.network.parameters[0], mine)


@pytest.mark.parametrize("changes", [{}, {"order": 1.4}, {"actor_value": "first"}, {"copies": 3}],
                         ids=["plain", "tsallis", "first", "copies"])  # fmt: skip
def test_a_killed_off_policy_run_gives_the_same_numbers(tmp_path, changes):
    settings = OffPolicySettings(**{**vars(TINY), **changes})

    def run(name, **more):
        return train_off_policy(
            "Pendulum-v1", 70 * settings.copies, source(), seeds=2, settings=settings,
            checkpoint=tmp_path / name, **more,
        )  # fmt: skip

    whole = run("whole")
    with pytest.raises(Killed):
        run("part", on_iteration=die_at(57))
    resumed = run("part")
    assert whole.interactions.tolist() == resumed.interactions.tolist()
    assert whole.interactions.shape == (3, 2)
    for mine, its in zip(
        whole.policy.network.parameters, resumed.policy.network.parameters, strict=True
    ):
        assert torch.equal(mine, its)
        assert mine.isfinite().all()


def test_the_critic_climbs_to_its_targets_and_the_old_policy_is_renewed():
    run = OffPolicyRun(Pendulum(), 400, source(), 2, TINY)
    start = [p.clone() for p in run.old]
    for _ in range(20):
        run.iterate()
    assert all(torch.equal(a, b) for a, b in zip(start, run.old, strict=True))
    before = [p.clone() for p in run.target]
    for _ in range(15):
        run.iterate()
    assert any(not torch.equal(a, b) for a, b in zip(start, run.old, strict=True))
    # The target moves by 0.5 % of the gap a step: it lags behind.
    gap = sum((a - b).abs().sum() for a, b in zip(run.target, run.critic.parameters, strict=True))
    moved = sum((a - b).abs().sum() for a, b in zip(run.target, before, strict=True))
    assert 0 < moved < gap


class Target(Environment):
    """One step an episode; the action should be 0.5."""

    observed, actions, discrete = 1, 1, False

    def start(self, seeds, copies, generator):
        return _TargetWorld(seeds, copies)


class _TargetWorld(World):
    def __init__(self, seeds, copies):
        self.shape = (seeds, copies)

    def reset(self):
        self.clock = 0
        return torch.ones(*self.shape, 1)

    def step(self, action):
        self.clock += 1
        no = torch.zeros(self.shape, dtype=torch.bool)
        reward = -2 * (action[..., 0] - 0.5).square() * (self.clock % 2 == 1)
        return TimeStep(torch.ones(*self.shape, 1), reward, no | (self.clock % 2 == 1), no)


@pytest.mark.parametrize("sac", [False, True], ids=["mdpo", "sac"])
def test_off_policy_training_finds_the_best_action(sac):
    settings = OffPolicySettings(
        batch=64, warm_up=100, hidden=(32,), learning_rate=1e-2, entropy_weight=0.02,
        divergence_weight=0.1, old_every=20, discount=0.9,
    )  # fmt: skip
    record = train_off_policy(
        Target(), 900, source(), seeds=2, settings=settings.sac() if sac else settings
    )
    action = record.policy.act(torch.ones(2, 1, 1))
    torch.testing.assert_close(action, torch.full((2, 1, 1), 0.5), atol=0.2, rtol=0)
    assert (evaluate(record.policy, Target(), source(), episodes=2) > -0.1).all()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"batch": 0}, "batch"), ({"order": 0.0}, "order"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"divergence_weight": -1.0}, "divergence_weight"), ({"decay": 1.5}, "decay"),
        ({"actor_value": "mean"}, "actor_value"), ({"hidden": (0,)}, "hidden"),
    ],
)  # fmt: skip
def test_off_policy_settings_refuse_by_name(changes, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        OffPolicySettings(**changes)
