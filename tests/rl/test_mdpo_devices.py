"""MDPO on every device present against float64 on the CPU, and elsewhere under fake tensors."""

import pytest
import torch

from mdtheory.rl import mdpo
from mdtheory.rl.mdpo import (
    CartPole,
    OffPolicySettings,
    OnPolicySettings,
    Pendulum,
    evaluate,
    train_off_policy,
    train_on_policy,
)
from mdtheory.rl.mdpo.trust_region import conjugate_gradients
from tests.everywhere import DEVICES, agrees_with_the_cpu, stays

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


def solver(device, dtype):
    root = table(device, dtype, S, K, K)
    matrix = root @ root.mT + torch.eye(K, dtype=dtype, device=device)
    right = table(device, dtype, S, K, shift=40)
    return (conjugate_gradients(lambda v: (matrix @ v[..., None])[..., 0], right, K),)


CASES = {
    "losses": losses,
    "conjugate gradients": solver,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


def test_fake_tensors_do_find_a_forgotten_device(elsewhere):
    """The mutant of the test above."""
    with pytest.raises(RuntimeError, match="device"):
        stays(lambda device, dtype: [table(device, dtype, 3) + torch.ones(3)], elsewhere)


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
