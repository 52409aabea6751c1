"""Language models on every device present against float64 on the CPU, and elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mdtheory.nlhf import language_models as lm
from mdtheory.nlhf.language_models import classes
from mdtheory.nlhf.online_preference.losses import dpo_loss
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays
from tests.nlhf.language_models_cases import gpt2

B, G, N, V = 2, 3, 4, 5
ROOT = Path(__file__).resolve().parents[2]


def mixtures(device, dtype):
    ours, theirs = numbers(device, dtype, B, N, V), numbers(device, dtype, B, N, V) / 2
    weight = torch.full((B, N), 0.25, dtype=dtype, device=device)
    return (
        lm.geometric_mixture(ours, theirs, 0.25), lm.geometric_mixture(ours, theirs, weight),
        classes.log_normalisers(ours, theirs, 0.25),
    )  # fmt: skip


def objectives(device, dtype):
    own, base, slow = (-numbers(device, dtype, B, G, N).abs() / k for k in (1, 2, 3))
    raw = numbers(device, dtype, B, G, G)
    table, reward = (raw - raw.mT).sigmoid(), numbers(device, dtype, B, G)
    return (
        lm.opponent_loss(own, base, table, 0.2), lm.self_play_loss(own, base, table, 0.2),
        lm.mirror_prox_loss(own, base, slow, table, 0.2, 2.0),
        lm.ipo_loss(own, base, table, 0.2), lm.pairs_loss(dpo_loss, own, base, table, 0.2),
        lm.reward_loss(own, base, reward, 0.2),
    )  # fmt: skip


def shares(device, dtype):
    policy, base = (numbers(device, dtype, B, 6).log_softmax(-1) / k for k in (1, 1))
    kinds = torch.arange(6, device=device) % 3
    found = classes.class_shares(policy, kinds, 3)
    return (
        found, classes.divergence_within_classes(policy, base.flip(-1), kinds, 3),
        classes.spread_over_classes(found, base, kinds),
    )  # fmt: skip


CASES = {"mixtures": mixtures, "objectives": objectives, "classes": shares}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_models_answer_and_are_scored_on_their_device(device):
    policy, reference = gpt2(1).to(device), gpt2(2).to(device)
    prompts = torch.tensor([[0, 0, 1], [1, 0, 0]], device=device)
    before = torch.tensor([[0, 1, 1], [1, 1, 1]], device=device)
    answers = lm.sample_answers(
        policy, prompts, before, 2, N, ends=[2], mixed=2, reference=reference, weight=0.3,
        generator=torch.Generator(device).manual_seed(0),
    )  # fmt: skip
    mask = lm.answer_mask(answers, [2])
    assert answers.device.type == mask.device.type == device
    rows = (prompts.repeat_interleave(4, 0), before.repeat_interleave(4, 0))
    found = lm.sequence_log_probs(policy, *rows, answers.flatten(0, 1), mask.flatten(0, 1))
    exact = lm.sequence_log_probs(
        policy.cpu(), *(row.cpu() for row in rows), answers.flatten(0, 1).cpu(),
        mask.flatten(0, 1).cpu(),
    )  # fmt: skip
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), exact, rtol=1e-9, atol=1e-9)


SCRIPT = """
import torch
from mdtheory.nlhf.language_models import PreferenceTrainer
from mdtheory.nlhf.language_models import grammar as world
for lora in (None, {"r": 2}):
    for loss in ("nash-md", "mirror-prox"):
        generator = torch.Generator().manual_seed(0)
        model = world.decoder(generator)
        world.supervise(model, generator, steps=40)
        run = PreferenceTrainer(
            model, preference=world.Annotators(), prompts=list(world.TOPICS), loss=loss,
            tokenizer=world.tokenizer(), new_tokens=7, learning_rate=1e-3, max_steps=2,
            progress=False, lora=lora,
        )
        table = run.train()
        assert run.device.type == "cuda" and run.half
        assert {weight.device.type for weight in run.model.parameters()} == {"cuda"}
        kinds = {w.dtype for w in run.model.parameters() if not w.requires_grad}
        assert kinds == (set() if lora is None else {torch.bfloat16})
        assert table[0]["kl"] == 0.0 and table[1]["kl"] != 0.0, table
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_training_uses_the_gpu_in_bf16():
    """In a process of its own: accelerate chooses a device once."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_public_function_has_a_case():
    source = Path(__file__).read_text("utf-8")
    elsewhere_or_of_no_device = {
        "Interval", "PreferenceModel", "PreferenceTrainer", "RewardModel", "Rewards",
        "clopper_pearson",
    }  # fmt: skip
    for name in set(lm.__all__) - elsewhere_or_of_no_device:
        assert f"lm.{name}(" in source, name
