"""MDPO: distributions, environments, normalisation and the training loops."""

import math
import sys

import pytest
import torch

from mdtheory.agents import film
from mdtheory.agents.advantages import standardize
from mdtheory.agents.distributions import log_slope_of_tanh
from mdtheory.agents.networks import Network, clip_gradients
from mdtheory.agents.normalization import Moments, RewardScale
from mdtheory.agents.replay import Replay, Transitions
from mdtheory.environments import Environment, TimeStep, World, draw_cartpole, draw_pendulum
from mdtheory.rl.mdpo import (
    ALGORITHMS,
    SCHEDULES,
    CartPole,
    Categorical,
    Gaussian,
    GymnasiumEnvironment,
    OffPolicySettings,
    OnPolicySettings,
    Pendulum,
    Policy,
    SquashedGaussian,
    evaluate,
    generalized_advantages,
    log_q,
    mdpo_loss,
    off_policy_actor_loss,
    ppo_loss,
    schedule,
    train_off_policy,
    train_on_policy,
    trust_region_step,
    tsallis_divergence,
)
from mdtheory.rl.mdpo.off_policy import OffPolicyRun
from mdtheory.rl.mdpo.on_policy import OnPolicyRun

gymnasium = pytest.importorskip("gymnasium")
float64 = torch.float64
SMALL = OnPolicySettings(copies=4, horizon=16, hidden=(8,), critic_epochs=2, critic_batch=32)
TINY = OffPolicySettings(batch=16, warm_up=20, hidden=(8,), old_every=10, record_every=25,
                         capacity=60, restart_every=20)  # fmt: skip


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


# ----------------------------------------------------------------------------------------- losses


def test_losses_of_leading_indices_do_not_meet(generator):
    parts = [torch.randn(3, 2, 20, generator=generator, dtype=float64) for _ in range(4)]
    steps = torch.rand(3, 2, generator=generator, dtype=float64) + 0.1
    together = mdpo_loss(*parts, steps)
    assert together.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            alone = mdpo_loss(*(part[i, j] for part in parts), steps[i, j].item())
            torch.testing.assert_close(together[i, j], alone)


def test_samples_without_weight_do_not_count(generator):
    parts = [torch.randn(5, 12, generator=generator, dtype=float64) for _ in range(4)]
    weight = torch.ones(5, 12, dtype=float64)
    weight[:, 7:] = 0
    kept = [part[:, :7] for part in parts]
    torch.testing.assert_close(mdpo_loss(*parts, 0.5, weight=weight), mdpo_loss(*kept, 0.5))
    torch.testing.assert_close(ppo_loss(*parts[:3], weight=weight), ppo_loss(*kept[:3]))
    torch.testing.assert_close(
        off_policy_actor_loss(*parts[:3], 1.0, 0.2, weight=weight),
        off_policy_actor_loss(*kept[:3], 1.0, 0.2),
    )
    with pytest.raises(ValueError, match="weight: expected a weight > 0 in every problem"):
        mdpo_loss(*parts, 0.5, weight=0 * weight)


def test_a_tiny_step_freezes_the_policy_and_an_infinite_one_forgets_the_divergence(generator):
    log_prob = torch.randn(40, generator=generator, dtype=float64, requires_grad=True)
    old, advantage = (torch.randn(40, generator=generator, dtype=float64) for _ in range(2))
    divergence = (log_prob - old).square()
    surrogate = -((log_prob - old).exp() * advantage).mean()
    free = mdpo_loss(log_prob, old, advantage, divergence, math.inf)
    torch.testing.assert_close(free, surrogate)
    slopes = [
        torch.autograd.grad(loss, log_prob, retain_graph=True)[0]
        for loss in (1e-9 * mdpo_loss(log_prob, old, advantage, divergence, 1e-9),
                     divergence.mean())
    ]  # fmt: skip
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-6)


def test_tsallis_logarithms():
    x = torch.tensor([1e-8, 0.3, 1.0, 7.0], dtype=float64)
    torch.testing.assert_close(log_q(x, 1.0), x.log())
    torch.testing.assert_close(log_q(x, 2.0), x - 1)
    torch.testing.assert_close(log_q(x, 1.5), 2 * (x.sqrt() - 1))
    near = log_q(x.clone().requires_grad_(), 1 + 1e-12)
    torch.testing.assert_close(near.detach(), x.log())
    x.requires_grad_()
    assert torch.autograd.grad(log_q(x, 1.0).sum(), x)[0].isfinite().all()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: mdpo_loss(x, x, x, x, 0.0), "step_size"),
        (lambda x: mdpo_loss(x, x, x, x, -x.new_ones(2)), "step_size"),
        (lambda x: mdpo_loss(x, x, x, x, x.new_ones(7)), "step_size"),
        (lambda x: mdpo_loss(x, x[:, :2], x, x, 1.0), "old_log_prob"),
        (lambda x: mdpo_loss(x, x, x[:, :2], x, 1.0), "advantage"),
        (lambda x: ppo_loss(x, x, x, 1.0), "clip_range"),
        (lambda x: ppo_loss(x, x, x, 0.0), "clip_range"),
        (lambda x: off_policy_actor_loss(x, x, x, -1.0, 0.0), "divergence_weight"),
        (lambda x: off_policy_actor_loss(x, x, x, 1.0, -x.new_ones(2)), "entropy_weight"),
        (lambda x: off_policy_actor_loss(x, x, x, 1.0, 0.0, order=0.0), "order"),
        (lambda x: tsallis_divergence(x.softmax(-1), x.softmax(-1), 0.0), "order"),
        (lambda x: tsallis_divergence(x.softmax(-1) * 2, x.softmax(-1)), "x"),
        (lambda x: log_q(x, -1.0), "order"),
        (lambda x: schedule("annealed", 0.0, 0, 1), "initial"),
        (lambda x: schedule("steep", 1.0, 0, 1), "schedule"),
        (lambda x: schedule("constant", 1.0, -1, 1), "iteration"),
    ],
)
def test_losses_refuse_by_name(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call(torch.randn(2, 5, generator=source(), dtype=float64))


def test_losses_refuse_other_types():
    x = torch.zeros(3)
    with pytest.raises(TypeError, match=r"^old_log_prob: expected"):
        mdpo_loss(x, x.double(), x, x, 1.0)
    with pytest.raises(TypeError, match=r"^advantage: expected"):
        ppo_loss(x, x, torch.zeros(3, dtype=torch.int64))


def test_schedules():
    assert [schedule("annealed", 2.0, k, 4) for k in range(4)] == [2.0, 1.5, 1.0, 0.5]
    assert schedule("annealed", 2.0, 4, 4) == pytest.approx(2e-3)
    assert schedule("square-root", 2.0, 3, 4) == 1.0
    assert {schedule("constant", 2.0, k, 4) for k in range(4)} == {2.0}
    assert set(SCHEDULES) == {"annealed", "constant", "square-root"}


# ------------------------------------------------------------------------------------- advantages


def test_resets_are_no_experience(generator):
    """A trajectory with a step that only resets, beside the two episodes on their own."""
    rewards = torch.randn(7, generator=generator, dtype=float64)
    values = torch.randn(8, generator=generator, dtype=float64)
    no = torch.zeros(7, dtype=torch.bool)
    truncated, resets = no.clone(), no.clone()
    truncated[2], resets[3] = True, True

    def of(part, ends):
        return generalized_advantages(
            rewards[part], values[part.start : part.stop + 1], no[part], ends[part],
            discount=0.9, gae_lambda=0.8,
        )  # fmt: skip

    found = generalized_advantages(
        rewards, values, no, truncated, discount=0.9, gae_lambda=0.8, resets=resets
    )
    for mine, first, second in zip(
        found, of(slice(0, 3), truncated), of(slice(4, 7), no), strict=True
    ):
        expected = torch.cat([first, torch.zeros(1, dtype=float64), second])
        torch.testing.assert_close(mine, expected)


def test_trace_zero_is_the_temporal_difference_and_one_is_monte_carlo(generator):
    rewards = torch.randn(9, 3, generator=generator, dtype=float64)
    values = torch.randn(10, 3, generator=generator, dtype=float64)
    no = torch.zeros(9, 3, dtype=torch.bool)
    last = no.clone()
    last[-1] = True
    short = generalized_advantages(rewards, values, no, no, discount=0.7, gae_lambda=0.0)[0]
    torch.testing.assert_close(short, rewards + 0.7 * values[1:] - values[:-1])
    for terminated, truncated, rest in ((last, no, 0.0), (no, last, 1.0)):
        long, targets = generalized_advantages(
            rewards, values, terminated, truncated, discount=0.7, gae_lambda=1.0
        )
        total = rest * values[-1]
        for t in range(8, -1, -1):
            total = rewards[t] + 0.7 * total
            torch.testing.assert_close(long[t], total - values[t])
            torch.testing.assert_close(targets[t], total)


def test_standardised_advantages(generator):
    raw = 5 + 3 * torch.randn(2, 40, generator=generator, dtype=float64)
    weight = (torch.rand(2, 40, generator=generator) < 0.7).to(float64)
    ready = standardize(raw, weight)
    count = weight.sum(-1)
    torch.testing.assert_close((weight * ready).sum(-1) / count, torch.zeros(2).double())
    torch.testing.assert_close((weight * ready.square()).sum(-1) / count, torch.ones(2).double())
    assert (ready[weight == 0] == 0).all()
    assert (standardize(torch.full((2, 40), 0.1).double(), weight) == 0).all()
    assert (standardize(raw, 0 * weight) == 0).all()


@pytest.mark.parametrize(
    ("changes", "error", "name"),
    [
        ({"discount": 1.1}, ValueError, "discount"),
        ({"gae_lambda": -0.1}, ValueError, "gae_lambda"),
        ({"values": torch.zeros(4, 2)}, ValueError, "values"),
        ({"values": torch.zeros(5, 2).double()}, TypeError, "values"),
        ({"terminated": torch.zeros(4, 2)}, TypeError, "terminated"),
        ({"truncated": torch.zeros(3, 2, dtype=torch.bool)}, ValueError, "truncated"),
        ({"resets": [False]}, TypeError, "resets"),
    ],
)
def test_advantages_refuse_by_name(changes, error, name):
    good = {
        "rewards": torch.zeros(4, 2),
        "values": torch.zeros(5, 2),
        "terminated": torch.zeros(4, 2, dtype=torch.bool),
        "truncated": torch.zeros(4, 2, dtype=torch.bool),
        "discount": 0.9,
        "gae_lambda": 0.9,
    }
    with pytest.raises(error, match=f"^{name}: expected"):
        generalized_advantages(**(good | changes))


# ---------------------------------------------------------------------------------- distributions


def test_laws_agree_with_those_of_torch(generator):
    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=float64)

    d = torch.distributions
    logits, others = normal(3, 7, 4), normal(3, 7, 4)
    action = torch.arange(7).remainder(4).expand(3, 7)
    mine, its = Categorical(logits), d.Categorical(logits=logits)
    torch.testing.assert_close(mine.log_prob(action), its.log_prob(action))
    torch.testing.assert_close(mine.entropy(), its.entropy())
    expected = d.kl_divergence(its, d.Categorical(logits=others))
    torch.testing.assert_close(mine.kl(Categorical(others)), expected)
    mean, log_std, far, wide = normal(3, 7, 2), normal(3, 1, 2), normal(3, 7, 2), normal(3, 1, 2)
    mine = Gaussian(mean, log_std)
    its = d.Independent(d.Normal(mean, log_std.exp().expand_as(mean)), 1)
    where = normal(3, 7, 2)
    torch.testing.assert_close(mine.log_prob(where), its.log_prob(where))
    torch.testing.assert_close(mine.entropy(), its.entropy())
    other = d.Independent(d.Normal(far, wide.exp().expand_as(far)), 1)
    torch.testing.assert_close(mine.kl(Gaussian(far, wide)), d.kl_divergence(its, other))
    base = d.Normal(mean, log_std.exp().expand_as(mean))
    squashed = d.TransformedDistribution(base, d.TanhTransform())
    mine = SquashedGaussian(mean, log_std.expand_as(mean))
    raw, logs = mine.sample(generator)
    torch.testing.assert_close(mine.log_prob(raw), logs)
    torch.testing.assert_close(squashed.log_prob(raw.tanh()).sum(-1), logs, rtol=1e-6, atol=1e-6)


def test_the_slope_of_tanh_where_tanh_is_one():
    raw = torch.tensor([-40.0, -1.0, 0.0, 1.0, 40.0], requires_grad=True)
    logs = log_slope_of_tanh(raw)
    expected = torch.tensor([1.0, 1.0, 1.0]).copy_((1 - raw[1:4].tanh() ** 2).log())
    torch.testing.assert_close(logs[1:4], expected)
    # 1 - tanh^2(x) is nearly 4 exp(-2 |x|).
    torch.testing.assert_close(logs[[0, 4]], torch.full((2,), math.log(4) - 80))
    assert torch.autograd.grad(logs.sum(), raw)[0].isfinite().all()


def test_samples_have_the_law_that_they_should(generator):
    logits = torch.tensor([[0.0, 1.0, -1.0]]).expand(20_000, 3)
    drawn = Categorical(logits).sample(generator)
    share = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(share, logits[0].softmax(-1), rtol=0, atol=0.015)
    law = Gaussian(torch.full((20_000, 1), 2.0), torch.tensor([[-1.0]]))
    drawn = law.sample(generator)
    assert drawn.mean().item() == pytest.approx(2.0, abs=0.02)
    assert drawn.std().item() == pytest.approx(math.exp(-1), abs=0.02)


def test_modes_and_detached_copies():
    logits = torch.tensor([[0.0, 2.0, 1.0]], requires_grad=True)
    assert Categorical(logits).mode().tolist() == [1]
    for law in (
        Categorical(logits), Gaussian(logits, logits), SquashedGaussian(logits, logits)
    ):  # fmt: skip
        assert not any(part.requires_grad for part in law.detach())
    torch.testing.assert_close(Gaussian(logits, logits).mode(), logits)
    torch.testing.assert_close(SquashedGaussian(logits, logits).mode(), logits.tanh())


def test_the_gaussian_tsallis_divergence_tends_to_the_kl_and_is_nonnegative(generator):
    def law():
        mean = torch.randn(50, 3, generator=generator, dtype=float64)
        return Gaussian(mean, torch.randn(1, 3, generator=generator, dtype=float64) / 2)

    new, old = law(), law()
    torch.testing.assert_close(new.divergence(old, 1 + 1e-5), new.kl(old), rtol=2e-3, atol=1e-3)
    for q in (1.2, 1.5, 2.0):
        assert (new.divergence(old, q) > 0).all()
        assert new.divergence(new, q).abs().max() < 1e-12


# --------------------------------------------------------------------------------------- networks


def test_copies_of_a_network_do_not_meet(generator):
    together = Network(3, (4, 8, 2), generator, dtype=float64)
    inputs = torch.randn(3, 5, 4, generator=generator, dtype=float64)
    whole = together(inputs)
    for k in range(3):
        parts = [p[k : k + 1] for p in together.parameters]
        torch.testing.assert_close(whole[k : k + 1], together(inputs[k : k + 1], parts))
    for weight in together.parameters[::2]:
        short = min(weight.shape[1:])
        gram = weight.mT @ weight if weight.shape[1] >= weight.shape[2] else weight @ weight.mT
        scale = gram[:, 0, 0]
        expected = scale[:, None, None] * torch.eye(short, dtype=float64)
        torch.testing.assert_close(gram, expected)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_push_is_the_derivative_along_a_direction(generator, activation):
    network = Network(2, (3, 6, 6, 2), generator, activation=activation, dtype=float64)
    inputs = torch.randn(2, 5, 3, generator=generator, dtype=float64)
    directions = [torch.randn(p.shape, generator=generator, dtype=float64)
                  for p in network.parameters]  # fmt: skip
    parameters = tuple(p.detach() for p in network.parameters)
    _, expected = torch.autograd.functional.jvp(
        lambda *p: network(inputs, p), parameters, tuple(directions)
    )
    torch.testing.assert_close(network.push(inputs, directions).detach(), expected.detach())


def test_gradients_are_clipped_for_each_copy():
    first, second = torch.zeros(2, 3), torch.zeros(2, 1, 2)
    first.grad = torch.tensor([[3.0, 0, 0], [0.1, 0, 0]])
    second.grad = torch.tensor([[[4.0, 0]], [[0.0, 0]]])
    norms = clip_gradients([first, second], 0.5)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.1]))
    torch.testing.assert_close(first.grad[:, 0], torch.tensor([0.3, 0.1]))
    torch.testing.assert_close(second.grad[0, 0, 0], torch.tensor(0.4))


# ----------------------------------------------------------------------------------- environments


@pytest.mark.parametrize(
    ("ours", "name"), [(CartPole(float64), "CartPole-v1"), (Pendulum(float64), "Pendulum-v1")]
)
def test_our_worlds_move_as_those_of_gymnasium(ours, name):
    theirs = gymnasium.make(name).unwrapped
    world = ours.start(2, 3, source())
    world.reset()
    generator = source(5)
    for _ in range(8):
        if ours.discrete:
            action = torch.randint(2, (2, 3), generator=generator)
        else:
            action = 3 * torch.rand(2, 3, 1, generator=generator, dtype=float64) - 1.5
        before = world.inner.clone()
        moment = world.step(action)
        for i in range(2):
            for j in range(3):
                theirs.reset()
                theirs.state = before[i, j].numpy().copy()
                order = int(action[i, j]) if ours.discrete else 2 * action[i, j].numpy()
                seen, reward, terminated, _, _ = theirs.step(order)
                expected = torch.as_tensor(seen).to(float64)
                torch.testing.assert_close(moment.observation[i, j], expected, rtol=1e-5, atol=1e-5)
                assert moment.reward[i, j].item() == pytest.approx(float(reward), rel=1e-6)
                assert bool(moment.terminated[i, j]) == terminated


@pytest.mark.parametrize("name", [CartPole(), "CartPole-v1"], ids=["tensors", "gymnasium"])
def test_worlds_reset_in_the_step_after_the_last(name):
    environment = GymnasiumEnvironment(name) if isinstance(name, str) else name
    world = environment.start(1, 2, source())
    seen = world.reset()
    assert seen.shape == (1, 2, 4)
    action = torch.tensor([[0, 1]])
    for _ in range(100):
        moment = world.step(action)
        if moment.terminated.any():
            break
    ended = moment.terminated
    assert ended.any()
    # The observation in which the episode ended, not the first of the next one.
    assert (moment.observation[ended][:, 2].abs() > math.pi / 15).all()
    assert (moment.reward[ended] == 1).all()
    after = world.step(action)
    assert (after.observation[ended].abs() <= 0.05).all()
    assert (after.reward[ended] == 0).all()
    assert not (after.terminated | after.truncated)[ended].any()
    again = world.step(action)
    assert (again.reward[ended] == 1).all()
    world.close()


def test_time_limits_truncate_and_do_not_terminate():
    world = Pendulum().start(1, 3, source())
    world.reset()
    action = torch.zeros(1, 3, 1)
    for k in range(1, 203):
        moment = world.step(action)
        assert not moment.terminated.any()
        assert bool(moment.truncated.all()) == (k == 200)
    theirs = GymnasiumEnvironment("Pendulum-v1").start(1, 3, source())
    theirs.reset()
    for k in range(1, 202):
        moment = theirs.step(action)
        assert bool(moment.truncated.all()) == (k == 200)
    theirs.close()


def test_actions_are_scaled_to_what_the_environment_wants():
    environment = GymnasiumEnvironment("Pendulum-v1")
    assert (environment.observed, environment.actions, environment.discrete) == (3, 1, False)
    world = environment.start(1, 1, source())
    world.reset()
    orders = []

    class Heard:
        def step(self, order):
            orders.append(order.copy())
            return torch.zeros(1, 3).numpy(), *(torch.zeros(1).numpy() for _ in range(3)), {}

    world.worlds.close()
    world.worlds = Heard()
    for value in (-1.0, 0.25, 7.0):
        world.step(torch.full((1, 1, 1), value))
    assert [order.item() for order in orders] == [-2.0, 0.5, 2.0]


def test_environments_that_do_not_fit_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"^name: expected observations"):
        GymnasiumEnvironment("FrozenLake-v1")
    with pytest.raises(TypeError, match=r"^environment: expected"):
        train_on_policy(3, 4096, source())
    with pytest.raises(ValueError, match=r"^environment: expected continuous"):
        train_off_policy(CartPole(), 100, source())
    with pytest.raises(ValueError, match=r"^copies: expected"):
        CartPole().start(1, 0, source())
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match="notebooks"):
        GymnasiumEnvironment("CartPole-v1")


def test_without_mujoco_the_message_says_what_to_install(monkeypatch):
    def missing(name):
        raise gymnasium.error.DependencyNotInstalled("no mujoco")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(ImportError, match=r"mdtheory\[mujoco\]"):
        GymnasiumEnvironment("HalfCheetah-v5")


# ----------------------------------------------------------------------------------- normalisation


def test_moments_of_pieces_are_the_moments_of_the_whole(generator):
    rows = 3 + 2 * torch.randn(2, 90, 3, generator=generator, dtype=float64)
    weight = (torch.rand(2, 90, generator=generator) < 0.7).to(float64)
    moments = Moments(2, 3, rows)
    torch.testing.assert_close(moments.standardize(rows), rows.clamp(-10, 10))
    for piece in (slice(0, 20), slice(20, 21), slice(21, 90)):
        moments.update(rows[:, piece], weight[:, piece])
    for k in range(2):
        kept = rows[k][weight[k] == 1]
        torch.testing.assert_close(moments.mean[k], kept.mean(0))
        variance = moments.square[k] / moments.count[k]
        torch.testing.assert_close(variance, kept.var(0, correction=0))
        ready = moments.standardize(rows)[k][weight[k] == 1]
        torch.testing.assert_close(ready.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    again = Moments(2, 3, rows)
    again.load(moments.state())
    assert torch.equal(again.standardize(rows), moments.standardize(rows))


def test_rewards_are_divided_by_the_deviation_of_returns(generator):
    rewards = torch.randn(50, 1, 2, generator=generator, dtype=float64)
    ended = torch.zeros(50, 1, 2, dtype=torch.bool)
    ended[20, 0, 0] = True
    scale = RewardScale(1, 2, 0.9, rewards)
    ready = scale.scale(rewards, ended, torch.ones_like(rewards))
    sums = []
    for copy in range(2):
        total = 0.0
        for t in range(50):
            total = 0.9 * total + rewards[t, 0, copy].item()
            sums.append(total)
            total = 0.0 if ended[t, 0, copy] else total
    deviation = torch.tensor(sums).double().std(correction=0)
    torch.testing.assert_close(ready, rewards / deviation, rtol=1e-6, atol=1e-6)


def test_statistics_are_frozen_in_evaluation():
    policy = Policy(Pendulum(), 2, (4,), source(), normalize=True)
    policy.moments.update(torch.randn(2, 30, 3, generator=source()), torch.ones(2, 30))
    before = {name: part.clone() for name, part in policy.moments.state().items()}
    evaluate(policy, Pendulum(), source(), episodes=2)
    assert all(torch.equal(before[name], part) for name, part in policy.moments.state().items())


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


class Killed(Exception):
    """Stands for a process that dies."""


def die_at(when):
    def report(done, total):
        if done == when:
            raise Killed

    return report


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


# ------------------------------------------------------------------------------------- off-policy


def rows(first, number, seeds=2):
    count = torch.arange(first, first + number).float()
    wide = count[None, :, None].expand(seeds, number, 1)
    flat = count.expand(seeds, number)
    return Transitions(wide, -wide, 2 * flat, wide + 1, 0 * flat, torch.ones(seeds, number))


def test_the_buffer_is_a_ring(generator):
    replay = Replay(2, 10, 1, 1, torch.zeros(()))
    for first in range(0, 16, 4):
        replay.add(rows(first, 4))
    assert len(replay) == 10
    drawn = replay.sample(400, generator)
    assert set(drawn.observation.flatten().tolist()) == set(range(6, 16))
    torch.testing.assert_close(drawn.after, drawn.observation + 1)
    torch.testing.assert_close(drawn.reward, 2 * drawn.observation[..., 0])
    torch.testing.assert_close(drawn.action, -drawn.observation)
    assert not torch.equal(drawn.reward[0], drawn.reward[1])
    again = Replay(2, 10, 1, 1, torch.zeros(()))
    again.load(replay.state())
    assert torch.equal(again.rows, replay.rows)


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


# ---------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("environment", [CartPole(), Pendulum()], ids=["cartpole", "pendulum"])
def test_frames_show_what_is_observed(environment):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    policy = Policy(environment, 2, (4,), source())
    seen = film(policy, environment, source(3), 5)
    assert seen.shape == (6, 2, environment.observed)
    # The first frame is a start, the second what the greedy policy makes of it.
    world = environment.start(2, 1, source(3))
    first = world.reset()
    assert torch.equal(seen[0], first[:, 0])
    assert torch.equal(seen[1], world.step(policy.act(first)).observation[:, 0])
    figure, axes = pyplot.subplots()
    if environment.discrete:
        draw_cartpole(axes, torch.tensor([1.0, 0.0, math.pi / 2, 0.0]))
        tip = axes.lines[-1].get_xydata()[-1]
        assert tip.tolist() == pytest.approx([2.2, 0.0], abs=1e-6)  # fallen to the right
    else:
        draw_pendulum(axes, torch.tensor([1.0, 0.0, 0.0]))
        assert axes.lines[1].get_xydata()[-1].tolist() == pytest.approx([0, 1], abs=1e-6)
    pyplot.close(figure)
    with pytest.raises(ValueError, match=r"^steps: expected"):
        film(policy, environment, source(), 0)
