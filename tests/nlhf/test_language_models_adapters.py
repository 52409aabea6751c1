"""Adapters: alone trained, and the reference is the model without them."""

import copy

import pytest
import torch

from mdtheory.nlhf.language_models import PreferenceTrainer, sequence_log_probs
from mdtheory.nlhf.language_models.loading import adapters_off
from mdtheory.nlhf.language_models.policies import with_adapters
from tests.nlhf.language_models_cases import gpt2, llama
from tests.nlhf.language_models_training import (
    spoken,
    trainer,
    weights,
    without_seconds,
    words,
)

pytest.importorskip("peft")
RANK = {"r": 4, "lora_alpha": 8}
TOKENS = torch.tensor([[3, 1, 5, 2]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.fixture
def run():
    found = trainer(spoken(), lora=RANK, learning_rate=1e-2, max_steps=3)
    found.start = spoken()
    found.train()
    return found


def test_adapters_alone_are_trained(run):
    names = [name for name, w in run.model.named_parameters() if w.requires_grad]
    assert names
    assert all(".lora_" in name for name in names)
    base = {name.replace(".base_layer", ""): w for name, w in run.start.named_parameters()}
    for name, weight in run.model.named_parameters():
        if ".lora_" not in name:
            plain = name.replace("base_model.model.", "").replace(".base_layer", "")
            assert torch.equal(weight, base[plain]), name


def test_the_reference_is_the_model_without_them(run):
    assert run.policies.base is None
    trained = logits(run.model)
    assert (trained - logits(run.start)).abs().max() > 1e-3
    with run.policies.reference() as reference:
        assert torch.equal(logits(reference), logits(run.start))
    assert torch.equal(logits(run.model), trained)
    # The mutant, another library's reference: the adapters are still active in it.
    assert torch.equal(logits(run.model.get_base_model()), trained)


def test_the_context_is_that_of_peft(run):
    with run.model.disable_adapter():
        theirs = logits(run.model)
    with adapters_off(run.model) as off:
        assert torch.equal(logits(off), theirs)
    assert [w.requires_grad for w in run.policies.trained] == [True] * len(run.policies.trained)


def test_ratios_start_at_zero_and_are_those_to_the_start():
    run = trainer(spoken(), lora=RANK, learning_rate=1e-2, max_steps=3)
    table = run.train()
    assert table[0]["kl"] == 0.0
    assert table[2]["kl"] != 0.0
    # The same run with a second copy of the model as its reference.
    other = trainer(spoken(), lora=RANK, learning_rate=1e-2, max_steps=3, reference=spoken())
    for one, two in zip(without_seconds(table), without_seconds(other.train()), strict=True):
        assert one == pytest.approx(two, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("loss", ["nash-ema", "mirror-prox", "ipo-md"])
def test_other_algorithms_with_adapters(loss):
    run = trainer(spoken(), loss, lora=RANK, max_steps=2)
    table = run.train()
    assert table[0]["kl"] == 0.0
    assert all(torch.tensor([row["loss"] for row in table]).isfinite())


def test_adapters_that_are_there_are_part_of_the_reference():
    generator = torch.Generator().manual_seed(1)
    tuned = with_adapters(spoken(), RANK, generator)
    for name, weight in tuned.named_parameters():
        if ".lora_B." in name:  # as if it had been fine-tuned
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
    start = copy.deepcopy(tuned)
    run = trainer(tuned, learning_rate=1e-2, max_steps=2)
    table = run.train()
    assert table[0]["kl"] == 0.0
    with run.policies.reference() as reference:
        assert torch.equal(logits(reference), logits(start))
        assert not torch.equal(logits(reference), logits(spoken()))
    with pytest.raises(ValueError, match="lora: expected None for a model which carries adapters"):
        trainer(tuned, lora=RANK)


def test_first_weights_come_from_the_seed():
    one, two = (with_adapters(spoken(), RANK, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(weights(one), weights(two))
    other = with_adapters(spoken(), RANK, torch.Generator().manual_seed(4))
    assert not torch.equal(weights(one), weights(other))
    assert torch.equal(logits(one), logits(spoken()))


def test_adapters_are_saved_alone_and_loaded_with_their_model(tmp_path):
    spoken().float().save_pretrained(tmp_path / "base")
    words().save_pretrained(tmp_path / "base")
    run = trainer(str(tmp_path / "base"), tokenizer=None, lora=RANK, learning_rate=1e-2)
    run.train()
    run.save(tmp_path / "tuned")
    assert (tmp_path / "tuned" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "tuned" / "model.safetensors").exists()
    again = trainer(str(tmp_path / "tuned"), tokenizer=None, max_steps=2)
    torch.testing.assert_close(logits(again.model), logits(run.model))
    # It is trained further, and what it was is the reference.
    assert again.train()[0]["kl"] == 0.0
    assert not torch.equal(logits(again.model), logits(run.model))
    with again.policies.reference() as reference:
        torch.testing.assert_close(logits(reference), logits(run.model))


@pytest.mark.parametrize("make", [gpt2, llama])
def test_gradients_reach_adapters_through_the_sum_of_log_probabilities(make):
    """Finite differences of a trained weight."""
    model = with_adapters(make(1, vocabulary=8), RANK, torch.Generator().manual_seed(0)).double()
    answers, ones = torch.tensor([[4, 2, 1]]), torch.ones(1, 3, dtype=torch.bool)

    def value():
        return sequence_log_probs(model, TOKENS, torch.ones_like(TOKENS), answers, ones).sum()

    weight = next(w for n, w in model.named_parameters() if ".lora_B." in n)
    value().backward()
    with torch.no_grad():
        weight[0, 0] += 1e-3
        above = value().item()
        weight[0, 0] -= 2e-3
        below = value().item()
    slope = (above - below) / 2e-3
    assert slope == pytest.approx(weight.grad[0, 0].item(), rel=1e-2, abs=1e-4)


def test_a_model_in_bf16_keeps_its_adapters_in_single(tmp_path):
    spoken().float().save_pretrained(tmp_path)
    run = trainer(str(tmp_path), lora=RANK, precision="bf16", max_steps=2)
    assert isinstance(run, PreferenceTrainer)
    kinds = {w.requires_grad: w.dtype for w in run.model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    assert run.train()[0]["kl"] == 0.0
