"""Losses of pairs beside TRL's, which is no requirement: the test runs where it is installed."""

import os
import warnings

import pytest
import torch

from mdtheory.nlhf.language_models import sequence_log_probs
from mdtheory.nlhf.online_preference.losses import dpo_loss, ipo_loss, slic_loss
from tests.nlhf.language_models_cases import gpt2
from tests.nlhf.language_models_training import words

BETA = 0.05
PAIRS = {
    "prompt": ["film ", "book trip ", "the meal "],  # newer ones tokenise both texts together
    "chosen": ["film is good", "i love the book so much", "the meal scores six of ten"],
    "rejected": ["the film scores nine of ten", "book is fine", "meal is"],
}


@pytest.fixture(scope="module")
def trl():
    # Its modules warn while they are imported, of things that are not ours.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("trl")
        pytest.importorskip("datasets")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        return found


@pytest.fixture(scope="module")
def models():
    return [gpt2(seed, len(words()), torch.float32, initializer_range=0.2) for seed in (1, 2)]


def theirs(trl, models, kind, folder):
    """Batches of one pair, and what TRL's trainer says of each."""
    import pyarrow
    from datasets import Dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = trl.DPOConfig(
            output_dir=str(folder), loss_type=[kind], beta=BETA, per_device_train_batch_size=1,
            report_to="none", use_cpu=True, bf16=False, disable_dropout=True, disable_tqdm=True,
        )  # fmt: skip
        trainer = trl.DPOTrainer(
            model=models[0], ref_model=models[1], args=args, processing_class=words(),
            train_dataset=Dataset(pyarrow.table(PAIRS), fingerprint=f"pairs-{kind}"),
        )  # fmt: skip
        batches = list(trainer.get_train_dataloader())
        with torch.no_grad():
            losses = [trainer.compute_loss(models[0].eval(), dict(batch)) for batch in batches]
    return batches, torch.stack(losses)


def ours(models, batch):
    """Log-probabilities of both answers under both models, and the answers' lengths."""
    found, lengths = [], []
    for row, counted in zip(batch["input_ids"], batch["completion_mask"], strict=True):
        start, length = counted.argmax(), counted.sum()
        prompt, answer = row[None, :start], row[None, start : start + length]
        masks = torch.ones_like(prompt), torch.ones_like(answer)
        with torch.no_grad():
            found.append([
                sequence_log_probs(model, prompt, masks[0], answer, masks[1]).sum()
                for model in models
            ])  # fmt: skip
        lengths.append(length)
    (chosen, base_chosen), (rejected, base_rejected) = found
    return chosen, rejected, base_chosen, base_rejected, *lengths


@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "ipo"])
def test_losses_of_pairs_are_trls(trl, models, kind, tmp_path):
    batches, expected = theirs(trl, models, kind, tmp_path)
    assert len(batches) == 3
    for batch, wanted in zip(batches, expected, strict=True):
        *logs, first, second = ours(models, batch)
        if kind == "ipo":  # it divides each answer's log-ratio by its length
            logs = [value / length for value, length in zip(logs, [first, second] * 2, strict=True)]
            found = ipo_loss(*logs, BETA)
        else:
            found = (dpo_loss if kind == "sigmoid" else slic_loss)(*logs, BETA)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    assert len({round(value, 4) for value in expected.tolist()}) > 1
