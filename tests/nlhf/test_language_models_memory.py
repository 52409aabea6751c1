"""Memory against what tensors hold, and intervals against their definition."""

import pytest
import torch

from mdtheory.nlhf.language_models import clopper_pearson
from mdtheory.nlhf.language_models.memory import memory_bytes
from mdtheory.nlhf.language_models.policies import with_adapters
from tests.nlhf.language_models_cases import gpt2, llama
from tests.nlhf.language_models_training import spoken, trainer

MODELS = {"gpt2": lambda: gpt2(1, 50, torch.float32), "llama": lambda: llama(1, 50, torch.float32)}


def size(tensors):
    return sum(one.numel() * one.element_size() for one in tensors)


@pytest.mark.parametrize("lora", [None, 3])
def test_weights_gradients_and_states_are_counted(lora):
    run = trainer(spoken().float(), lora=None if lora is None else {"r": lora})
    run.step()
    found = memory_bytes(spoken().config, 16, 1, 7, lora, half=False)
    assert found["weights"] == size(run.model.parameters())
    base = run.policies.base
    assert found["reference"] == (0 if base is None else size(base.parameters()))
    assert found["gradients"] == size(w.grad for w in run.policies.trained)
    states = run.learning.optimizer.state.values()
    held = size(state[name] for state in states for name in ("exp_avg", "exp_avg_sq"))
    assert found["optimizer"] == held
    assert found["total"] == sum(found.values()) - found["total"]
    assert found["casts"] == 0


@pytest.mark.parametrize("name", MODELS)
def test_caches_are_counted(name):
    model = MODELS[name]()
    tokens = torch.zeros(6, 5, dtype=torch.long)
    with torch.no_grad():
        cache = model(input_ids=tokens, use_cache=True).cache
    held = size(part for layer in cache.layers for part in (layer.keys, layer.values))
    # Four answers and the reference's two, of three and two tokens.
    assert memory_bytes(model.config, 4, 3, 2, half=False)["cache"] == held
    assert memory_bytes(model.config, 4, 3, 2)["cache"] == held / 2


@pytest.mark.parametrize("name", MODELS)
def test_adapters_are_counted(name):
    model = MODELS[name]()
    config = model.config
    tuned = with_adapters(model, {"r": 5}, torch.Generator())
    adapters = sum(w.numel() for w in tuned.parameters() if w.requires_grad)
    found = memory_bytes(config, 4, 3, 2, 5)
    whole = sum(w.numel() for w in tuned.parameters()) - adapters
    assert found["gradients"] == 4 * adapters
    assert found["optimizer"] == 8 * adapters
    assert found["weights"] == 2 * whole + 4 * adapters
    assert found["reference"] == 0


def test_logits_and_optimisers():
    found = memory_bytes(MODELS["gpt2"]().config, 4, 3, 2, optimizer="sgd")
    assert found["optimizer"] == 0
    assert found["logits"] == 4 * 4 * 3 * 50
    with pytest.raises(ValueError, match="optimizer: expected one of adamw, sgd"):
        memory_bytes(MODELS["gpt2"]().config, 4, 3, 2, optimizer="lion")
    with pytest.raises(ValueError, match="rows: expected a whole number >= 1"):
        memory_bytes(MODELS["gpt2"]().config, 0, 3, 2)


def test_a_large_model_is_counted_without_being_made():
    """The sizes of a Llama of 1.2 billion weights with tied embeddings."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, head_dim=64, tie_word_embeddings=True,
    )  # fmt: skip
    found = memory_bytes(config, 16, 512, 512, 16)
    adapters = found["gradients"] // 4
    assert adapters == 11_272_192
    assert found["weights"] == 2 * 1_235_814_400 + 4 * adapters
    assert found["cache"] == 24 * 1024 * 2 * 16 * 8 * 64 * 2


# Intervals.


@pytest.mark.parametrize(("wins", "n"), [(0, 7), (7, 7), (1, 7), (30, 100), (1999, 2000)])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_are_quantiles_of_beta_laws(wins, n, level):
    stats = pytest.importorskip("scipy.stats")
    tail = (1 - level) / 2
    found = clopper_pearson(wins, n, level)
    assert found.rate == wins / n
    low = stats.beta.ppf(tail, wins, n - wins + 1) if wins else 0.0
    high = stats.beta.ppf(1 - tail, wins + 1, n - wins) if wins < n else 1.0
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


def chances(n, rate):
    counts = torch.arange(n + 1, dtype=torch.float64)
    total = torch.tensor(float(n), dtype=torch.float64)
    ways = torch.lgamma(total + 1) - torch.lgamma(counts + 1) - torch.lgamma(total - counts + 1)
    rate = torch.tensor(rate, dtype=torch.float64)
    return (ways + torch.xlogy(counts, rate) + torch.xlogy(total - counts, 1 - rate)).exp()


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.5, 0.98])
def test_intervals_cover_and_walds_do_not(rate):
    """The exact coverage of 20 throws."""
    n, level = 20, 0.95
    law = chances(n, rate)
    found = [clopper_pearson(wins, n, level) for wins in range(n + 1)]
    inside = torch.tensor([one.low <= rate <= one.high for one in found])
    assert law[inside].sum() >= level
    wald = [1.959964 * (k / n * (1 - k / n) / n) ** 0.5 for k in range(n + 1)]
    covered = torch.tensor([abs(k / n - rate) <= half for k, half in enumerate(wald)])
    if rate in (0.02, 0.98):
        assert law[covered].sum() < 0.4


def test_an_interval_turns_round():
    one, other = clopper_pearson(3, 10), clopper_pearson(7, 10)
    assert one.low == pytest.approx(1 - other.high)
    assert one.high == pytest.approx(1 - other.low)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0), "n: expected a whole number >= 1"),
        ((3, 2), "wins: expected at most n = 2, got 3"),
        ((-1, 2), "wins: expected a whole number >= 0"),
        ((1.5, 2), "wins: expected a whole number, got float"),
        ((1, 2, 1.0), r"level: expected a number in \(0, 1\), got 1.0"),
        ((1, 2, 0.0), r"level: expected a number in \(0, 1\), got 0.0"),
    ],
)
def test_wrong_counts(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        clopper_pearson(*arguments)
