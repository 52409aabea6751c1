"""Group-relative REINFORCE on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory.rl import group_relative as gr
from mdtheory.rl.group_relative import bounds
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays


def advantages(device, dtype):
    rewards = numbers(device, dtype, 2, 3, 4)
    return (
        gr.group_advantages(rewards),
        gr.group_advantages(rewards, True, 0.2),
        *gr.red_weights(rewards, "weight", 0.5),
        *gr.red_weights(rewards, "weight_centred"),
    )


def losses(device, dtype):
    now, old = numbers(device, dtype, 2, 6, 5), numbers(device, dtype, 2, 7, 5)[:, :6]
    advantage = numbers(device, dtype, 2, 6)
    mask = torch.arange(30, device=device).reshape(6, 5).remainder(4) > 0
    mask = mask.expand(2, -1, -1)
    return (
        gr.rec_loss(now, old, advantage, mask),
        gr.rec_loss(now, old, advantage, None, "ring", False),
        gr.grpo_loss(now, old, advantage, mask, average="constant"),
        gr.opmd_loss(now, old, advantage, mask),
        gr.opmd_loss(now, old, advantage, mask, form="paper"),
        gr.asymmetric_loss(now, advantage, mask, average="responses"),
        gr.pairwise_consistency_loss(advantage, now[..., 0], old[..., 0], 0.3, advantage**2),
    )


def limits(device, dtype):
    mu, anchor = (numbers(device, dtype, 3, 4 + k)[:, :4].softmax(-1) for k in range(2))
    rewards = numbers(device, dtype, 3, 4)
    success = numbers(device, dtype, 5) ** 2 / 2 + 0.1
    shifted = rewards - (mu * rewards).sum(-1, keepdim=True) + 0.7
    return (
        gr.stale_step(anchor.log(), mu, shifted, 0.4),
        gr.stale_limit(mu, shifted),
        *gr.opmd_limit(anchor, rewards, 0.5),
        gr.clip_stop(success),
        gr.prompt_weight(success, 5),
        gr.asymmetric_value(success, 0.4),
        bounds.stale_distance_bound(success, 0.1, success, 3),
        bounds.ascent_bound(mu, anchor, (rewards > 0).to(dtype)),
    )


CASES = {"advantages": advantages, "losses": losses, "limits": limits}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_training_stays_on_its_device(device):
    generator = torch.Generator(device).manual_seed(1)
    record = gr.train_group_relative(
        ["GRPO", "RED-Drop"], [0, 0, 2], 2, generator, task=gr.Products(3, device), base_steps=3,
        prompts=2, group=3, hidden=(4,),
    )  # fmt: skip
    for part in record[1:]:
        assert part.device.type == device
