"""The trainer: every algorithm, its parts, and what must not change anything."""

import copy

import pytest
import torch

from mdtheory.nlhf.language_models import (
    PreferenceTrainer,
    Rewards,
    opponent_loss,
    reward_loss,
    sample_answers,
    sequence_log_probs,
)
from mdtheory.nlhf.language_models import grammar as world
from mdtheory.nlhf.language_models.judging import rewards_of, table_between
from mdtheory.nlhf.language_models.likelihoods import answer_mask
from mdtheory.nlhf.language_models.trainer import SAMPLES
from tests.nlhf.language_models_training import (
    LOSSES,
    TOPICS,
    judge_for,
    spoken,
    trainer,
    weights,
    without_seconds,
    words,
)

COLUMNS = {"step", "loss", "kl", "entropy", "length", "ended", "distinct", "gradient",
           "learning_rate", "sampling", "judging", "learning"}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_every_algorithm_takes_steps(loss):
    model = spoken()
    start = weights(model)
    run = trainer(model, loss, max_steps=2)
    table = run.train()
    assert [row["step"] for row in table] == [1, 2]
    for row in table:
        assert set(row) == COLUMNS | {"reward" if loss == "rlhf" else "preferred"}
        assert all(torch.tensor(list(row.values())).isfinite())
        assert 0 < row["ended"] <= 1
        assert 0.5 <= row["distinct"] <= 1
    assert table[0]["kl"] == pytest.approx(0, abs=1e-12)
    assert table[1]["kl"] != 0
    assert not torch.equal(weights(run.model), start)
    assert torch.equal(weights(run.policies.base), start)


@pytest.mark.parametrize("loss", ["nash-md", "rlhf"])
def test_a_step_is_the_loss_and_adamw(loss):
    """Written out with the parts alone."""
    model, reference = spoken(), spoken()
    run = trainer(spoken(), loss, clip=0.5)
    run.steps = 3  # whatever it says: each step has its own chance
    prompts = run._next_prompts()
    chance = run._chance(SAMPLES, 3)
    tokens = torch.tensor(words()(prompts)["input_ids"])
    ones = torch.ones_like(tokens)
    own, mixed = (4, 0) if loss == "rlhf" else (2, 2)
    drawn = sample_answers(
        model, tokens, ones, own, world.LONGEST, ends=[0], generator=chance, mixed=mixed,
        reference=reference, weight=0.25,
    )  # fmt: skip
    texts = [[words().decode(a, skip_special_tokens=True) for a in group] for group in drawn]
    mine, mask = drawn[:, :own], answer_mask(drawn[:, :own], [0])
    rows = (tokens.repeat_interleave(own, 0), ones.repeat_interleave(own, 0),
            mine.flatten(0, 1), mask.flatten(0, 1))  # fmt: skip
    ours = sequence_log_probs(model, *rows).unflatten(0, (-1, own))
    base = sequence_log_probs(reference, *rows).detach().unflatten(0, (-1, own))
    if loss == "rlhf":
        value = reward_loss(ours, base, rewards_of(judge_for(loss), prompts, texts).double(), 0.1)
    else:
        first, second = [t[:2] for t in texts], [t[2:] for t in texts]
        table = table_between(judge_for(loss), prompts, first, second)
        value = opponent_loss(ours, base, table.double(), 0.1)
    optimizer = torch.optim.AdamW(
        model.parameters(), 1e-3, betas=(0.9, 0.95), weight_decay=0.0
    )  # fmt: skip
    value.mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    row = run.step()
    assert row["loss"] == pytest.approx(value.mean().item(), rel=1e-9)
    assert row["gradient"] == pytest.approx(norm.item(), rel=1e-9)
    torch.testing.assert_close(weights(run.model), weights(model), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("loss", ["nash-md", "mirror-prox"])
def test_accumulation_changes_nothing_but_the_memory(loss):
    tables = [without_seconds(trainer(loss=loss, accumulate=parts).train()) for parts in (1, 2, 4)]
    for other in tables[1:]:
        for one, two in zip(tables[0], other, strict=True):
            assert one == pytest.approx(two, rel=1e-6, abs=1e-9)


def test_one_seed_is_one_run_and_another_seed_another():
    one, two, other = (without_seconds(trainer(seed=s).train()) for s in (1, 1, 2))
    assert one == two
    assert one != other


def test_every_prompt_comes_once_in_a_turn():
    run = trainer(prompts=[f"film {k}" for k in range(10)], prompts_per_step=4)
    seen = []
    for _ in range(5):
        seen += run._next_prompts()
        run.steps += 1
    assert sorted(seen[:10]) == sorted(seen[10:]) == sorted(run.prompts)
    assert seen[:10] != seen[10:]


def test_the_average_follows_by_its_share():
    run = trainer(loss="nash-ema", average=0.3)
    start = [w.detach().clone() for w in run.policies.trained]
    run.step()
    for first, now, slow in zip(start, run.policies.trained, run.policies.slow, strict=True):
        torch.testing.assert_close(slow, 0.7 * first + 0.3 * now.detach())
    own = weights(run.model)
    with run.policies.average() as averaged:
        assert not torch.equal(weights(averaged), own)
    assert torch.equal(weights(run.model), own)


def test_the_learning_rate_rises_and_falls():
    run = trainer(max_steps=10, warmup=4, decay=0.5, learning_rate=1.0)
    rates = [run.settings.rate(step) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_rewards_are_learned():
    run = trainer(spoken().float(), "rlhf", max_steps=40, group=4, learning_rate=3e-3)
    table = run.train()
    first, last = (sum(row["reward"] for row in part) / 10 for part in (table[:10], table[-10:]))
    assert last > max(0.9, first)
    assert run.win_rate(None, TOPICS, 30).low > 0.4


def test_half_precision_starts_at_the_reference():
    """Products in bf16: both models round alike, so the first ratios are 0."""
    run = trainer(spoken().float(), precision="bf16", max_steps=2)
    table = run.train()
    assert table[0]["kl"] == 0.0
    assert run.model.transformer.wte.weight.dtype == torch.float32
    plain = trainer(spoken().float(), max_steps=1).train()
    assert table[0]["loss"] != plain[0]["loss"]


def test_a_gradient_that_is_not_finite_is_no_step():
    model = spoken()
    run = trainer(model)
    kept = weights(model)
    run.policies.trained[0].register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(ArithmeticError, match="gradient: expected a finite norm in step 1"):
        run.step()
    assert torch.equal(weights(model), kept)


def test_generation_disturbs_no_training():
    one, two = trainer(), trainer()
    first = one.step()
    two.generate(["film"], 3)
    two.win_rate(None, TOPICS)
    assert without_seconds([first]) == without_seconds([two.step()])


def test_win_rates_count():
    run = trainer(group=1)
    sure = copy.copy(run)
    sure.preference = lambda prompts, first, second: [0.75] * len(first)  # in both orders: even
    found = sure.win_rate(None, TOPICS, 100)
    assert found.low < 0.5 < found.high
    assert found.rate * 400 == pytest.approx(round(found.rate * 400))
    run.preference = world.Annotators()
    other = world.decoder(torch.Generator().manual_seed(1)).double()  # says no sentence
    assert run.win_rate(other, TOPICS, 20).low > 0.6
    assert run.win_rate(trainer(other), TOPICS, 20).low > 0.6


def test_conversations_are_prompts():
    tokenizer = copy.deepcopy(words())
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}answer{% endif %}"
    )
    run = trainer(tokenizer=tokenizer, prompts=[[{"role": "user", "content": "film"}], "book"])
    assert run.encoder.text("book") == "book answer"
    assert run.encoder.text(run.prompts[0]) == "film answer"
    run.step()
    assert run._asked(run.prompts[0]) == "film answer"
    plain = trainer(tokenizer=tokenizer, template=None)
    assert plain.encoder.text("book") == "book"
    form = trainer(tokenizer=tokenizer, template="the {prompt} is")
    assert form.encoder.text("book") == "the book is"
    ids, mask = form.encoder.encode(["book", "film six"], torch.device("cpu"))
    assert words().batch_decode(ids) == [". the book is", "the film six is"]
    assert mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "nash"}, "loss: expected one of nash-md, nash-ema"),
        ({"temperature": -0.1}, "temperature: expected a finite number >= 0"),
        ({"loss": "online-ipo", "temperature": 0.0}, "temperature: expected a finite number > 0"),
        ({"mixture": 1.2}, r"mixture: expected a number in \[0, 1\]"),
        ({"average": -1.0}, r"average: expected a number in \[0, 1\]"),
        ({"step_size": 0.0}, "step_size: expected a number > 0"),
        ({"group": 0}, "group: expected a whole number >= 1"),
        ({"prompts_per_step": 4, "accumulate": 3}, "accumulate: expected a divisor"),
        ({"new_tokens": 1.5}, "new_tokens: expected a whole number"),
        ({"learning_rate": 0.0}, "learning_rate: expected a finite number > 0"),
        ({"sampling_temperature": 0.0}, "sampling_temperature: expected a finite number > 0"),
        ({"precision": "fp8"}, "precision: expected one of auto, bf16, float32"),
        ({"prompts": []}, "prompts: expected at least one prompt"),
        ({"prompts": "film"}, "prompts: expected a sequence of texts, got str"),
        ({"prompts": [[{"role": "user", "content": "x"}]]}, "no chat template"),
        ({"preference": 0.5}, "preference: expected a function, got float"),
        ({"loss": "rlhf", "preference": world.Annotators()}, r"expected Rewards\(function\)"),
        ({"tokenizer": None}, "tokenizer: expected one with a model that is an object"),
        ({"template": "hello"}, "template: expected a text with {prompt}"),
        ({"template": 3}, "template: expected a text or None"),
        ({"save_every": -1}, "save_every: expected a whole number >= 0"),
        ({"lora": 8}, "lora: expected settings by name"),
        ({"lora": {"rank": 8}}, "lora: expected settings of peft.LoraConfig"),
        ({"clip": 0.0}, "clip: expected a number > 0"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        trainer(**change)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([0.5], r"preference: expected one number each, shape \(32,\), got \(1,\)"),
        ([1.5] * 32, r"preference: expected numbers in \[0, 1\], got 1.5"),
        ([float("nan")] * 32, r"preference: expected numbers in \[0, 1\], got nan"),
        (["yes"] * 32, "preference: expected a tensor, an array or a sequence of numbers"),
        (None, "preference: expected a tensor, an array or a sequence of numbers"),
    ],
)
def test_a_judge_must_give_probabilities(said, message):
    run = trainer(preference=lambda prompts, first, second: said)
    with pytest.raises((TypeError, ValueError), match=message):
        run.step()


def test_a_reward_must_give_numbers():
    run = trainer(loss="rlhf", preference=Rewards(lambda prompts, answers: [float("inf")] * 16))
    with pytest.raises(ValueError, match="rewards: expected finite values"):
        run.step()
    with pytest.raises(TypeError, match="function: expected a function, got int"):
        Rewards(3)


def test_the_reference_is_another_object():
    model = spoken()
    with pytest.raises(ValueError, match="reference: expected another object"):
        trainer(model, reference=model)
    for weight in model.parameters():
        weight.requires_grad_(False)
    with pytest.raises(ValueError, match="model: expected weights that can be trained"):
        trainer(model)
    with pytest.raises(TypeError, match="model: expected a folder, a file or a name, got int"):
        PreferenceTrainer(3, preference=world.Annotators(), prompts=TOPICS, tokenizer=words())


def test_sharded_models_are_refused():
    class Sharded:
        distributed_type, process_index, num_processes = "DistributedType.FSDP", 0, 2

    with pytest.raises(ValueError, match="accelerator: expected data parallelism"):
        trainer(accelerator=Sharded())
