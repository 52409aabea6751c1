"""MDPO on every device present against float64 on the CPU, and elsewhere under fake tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdtheory.agents.advantages import standardize
from mdtheory.agents.normalization import Moments, RewardScale
from mdtheory.environments.classic import _CartPoleWorld, _PendulumWorld
from mdtheory.rl import mdpo
from mdtheory.rl.mdpo import (
    CartPole,
    Categorical,
    Gaussian,
    OffPolicySettings,
    OnPolicySettings,
    Pendulum,
    SquashedGaussian,
    evaluate,
    train_off_policy,
    train_on_policy,
)
from mdtheory.rl.mdpo.trust_region import conjugate_gradients

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
S, N, K = 2, 12, 3


def table(device, dtype, *shape, shift=0):
    """Numbers that are the same everywhere."""
    size = torch.Size(shape).numel()
    flat = torch.arange(shift, shift + size, dtype=dtype, device=device)
    return torch.cos(3 * flat).reshape(shape)


def losses(device, dtype):
    a, b, c, d = (table(device, dtype, S, N, shift=100 * k) for k in range(4))
    step = table(device, dtype, S).abs() + 0.1
    x, y = (table(device, dtype, S, K, shift=7 * k).softmax(-1) for k in range(2))
    return (
        mdpo.mdpo_loss(a, b, c, d, step, weight=d.abs()), mdpo.ppo_loss(a, b, c),
        mdpo.off_policy_actor_loss(a, b, c, step, step / 2, order=1.5),
        mdpo.tsallis_divergence(x, y), mdpo.tsallis_divergence(x, y, 1.7), mdpo.log_q(x, 1.3),
    )  # fmt: skip


def sums(device, dtype):
    rewards, values = table(device, dtype, N, S), table(device, dtype, N + 1, S)
    ended = rewards > 0.7
    fell, resets = ended & (values[1:] > 0), torch.zeros_like(ended)
    found = mdpo.generalized_advantages(
        rewards, values, fell, ended & ~fell, discount=0.9, gae_lambda=0.8, resets=resets
    )
    return (*found, standardize(rewards.mT, (~resets).mT.to(dtype)))


def laws(device, dtype):
    first, second = (table(device, dtype, S, N, K, shift=50 * k) for k in range(2))
    rows = [table(device, dtype, S, 1, K, shift=9 * k) / 3 for k in range(2)]
    action = torch.arange(N, device=device).remainder(K).expand(S, N)
    one, two = Categorical(first), Categorical(second)
    this, that = Gaussian(first, rows[0]), Gaussian(second, rows[1])
    squashed = SquashedGaussian(first, second / 2)
    return (
        one.log_prob(action), one.entropy(), one.kl(two), one.divergence(two, 1.5),
        *one.metric(second), this.log_prob(second), this.entropy(), this.kl(that),
        this.divergence(that, 1.5), *this.metric(second, rows[1]), squashed.log_prob(second),
        squashed.mode(), this.mode(),
    )  # fmt: skip


def world(make, discrete):
    def case(device, dtype):
        played = make.__new__(make)
        played.inner = table(device, dtype, S, N, played.width) / 20
        played.age = torch.zeros(S, N, dtype=torch.int64, device=device)
        played.over = table(device, dtype, S, N) > 0.9
        start = table(device, dtype, S, N, played.width, shift=3) / 30
        played._first = lambda: start
        action = table(device, dtype, S, N) > 0 if discrete else table(device, dtype, S, N, 1)
        steps = [played.step(action.long() if discrete else action) for _ in range(3)]
        return tuple(part for step in steps for part in step)

    return case


def statistics(device, dtype):
    rows, weight = table(device, dtype, S, N, K), table(device, dtype, S, N).abs()
    moments = Moments(S, K, rows)
    moments.update(rows, weight)
    rewards = table(device, dtype, 6, S, N)
    scale = RewardScale(S, N, 0.9, rewards)
    return (
        moments.standardize(rows),
        scale.scale(rewards, rewards > 0.8, torch.ones_like(rewards)),
    )


def solver(device, dtype):
    root = table(device, dtype, S, K, K)
    matrix = root @ root.mT + torch.eye(K, dtype=dtype, device=device)
    right = table(device, dtype, S, K, shift=40)
    return (conjugate_gradients(lambda v: (matrix @ v[..., None])[..., 0], right, K),)


CASES = {
    "losses": losses,
    "advantages": sums,
    "laws": laws,
    "CartPole": world(_CartPoleWorld, True),
    "Pendulum": world(_PendulumWorld, False),
    "statistics": statistics,
    "conjugate gradients": solver,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    exact = CASES[name]("cpu", torch.float64)
    for ours, theirs in zip(CASES[name](device, dtype), exact, strict=True):
        assert ours.device.type == device
        if theirs.dtype == torch.bool:
            assert torch.equal(ours.cpu(), theirs)
            continue
        assert ours.dtype == dtype
        tolerance = 1e-9 if dtype == torch.float64 else 2e-3
        torch.testing.assert_close(ours.cpu().double(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_nothing_is_left_on_another_device(name, dtype, elsewhere):
    with FakeTensorMode():
        for result in CASES[name](elsewhere, dtype):
            assert result.device.type == elsewhere
            assert result.dtype in (dtype, torch.bool)


def test_fake_tensors_do_find_a_forgotten_device(elsewhere):
    """The mutant of the test above."""
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        table(elsewhere, torch.float32, 3) + torch.ones(3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("algorithm", mdpo.ALGORITHMS)
def test_training_stays_on_the_device_of_its_generator(device, algorithm):
    """On a GPU with thousands of copies; few where there is none."""
    copies = 4096 if device == "cuda" else 8
    for environment in (CartPole(), Pendulum()):
        generator = torch.Generator(device).manual_seed(0)
        settings = OnPolicySettings(copies=copies, horizon=4, hidden=(8,), normalize=True)
        record = train_on_policy(
            environment, copies * 8, generator, algorithm=algorithm, seeds=2, settings=settings
        )
        for tensor in (record.returns, record.divergences, *record.policy.parameters):
            assert tensor.device.type == device
    assert evaluate(record.policy, Pendulum(), generator, episodes=2).device.type == device
    if algorithm == "mdpo":
        small = OffPolicySettings(batch=8, warm_up=4, hidden=(8,), copies=2)
        run = train_off_policy(Pendulum(), 20, generator, seeds=2, settings=small)
        assert run.policy.network.parameters[0].device.type == device
