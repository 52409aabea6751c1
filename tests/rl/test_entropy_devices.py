"""Entropy smoothing on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory.rl import entropy as en
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays


def tokens(device, dtype):
    entropy = 1.5 + numbers(device, dtype, 2, 3, 4, 2)
    mask = torch.arange(4, device=device) < torch.arange(1, 4, device=device)[:, None]
    return entropy, mask[..., None]


def loss(kind):
    def case(device, dtype):
        entropy, mask = tokens(device, dtype)
        reference, alpha = (1 + numbers(device, dtype, 3)[:2] ** 2 for _ in range(2))
        whole = en.epo_loss(
            entropy.sum((1, 2, 3)), entropy, mask, reference, 1.5, 0.1, alpha, kind=kind
        )
        return (
            whole,
            en.trajectory_entropy(entropy, mask),
            en.corridor_penalty(entropy, 1.2, 0.5, 1.5, kind),
            en.net_coefficient(entropy, 1.2, 1.5, 0.1, 0.4, kind=kind),
        )

    return case


def flow(device, dtype):
    logits = 2 * numbers(device, dtype, 3, 5)
    strength = numbers(device, dtype, 3) ** 2
    record = en.silent_flow(logits, 5, 0.3, 0.6 + strength, strength)
    return *record, *en.entropy_gradient(logits)


def growth(device, dtype):
    return (en.bounds.reference_growth(1 + numbers(device, dtype, 4) ** 2, 1.5),)


def chain(device, dtype):
    generator = torch.Generator().manual_seed(3)
    world = en.LockChain(2, 5, 2, generator, goals=2, verbs=2, objects=3)
    world.code, world._seed = world.code.to(device), world._seed.to(device)
    log_policy = numbers(device, dtype, 2, world.contexts, 6).log_softmax(-1)
    return world.success(log_policy), *world.optimum(numbers(device, dtype, 3) ** 2)


CASES = {
    "relu": loss("relu"),
    "indicator": loss("indicator"),
    "flow": flow,
    "growth": growth,
    "chain": chain,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", [name for name in CASES if name != "chain"])
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_training_stays_on_its_device(device):
    generator = torch.Generator(device).manual_seed(2)
    record = en.train_multi_turn(
        [en.Mode(0.1, 0.5), en.Mode()], 2, 3, generator=generator, turns=3, locks=2, groups=2,
        group=2, width=4,
    )  # fmt: skip
    for part in record:
        assert part.device.type == device
        assert part.dtype == torch.float32
