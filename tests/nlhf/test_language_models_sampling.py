"""What is drawn follows the exact laws, whatever the batch looks like."""

import pytest
import torch

from mdtheory.nlhf.language_models import (
    answer_mask,
    geometric_mixture,
    sample_answers,
    sequence_log_probs,
)
from tests.nlhf.language_models_cases import (
    ANSWERS,
    BEFORE,
    END,
    LONGEST,
    PROMPT,
    WEIGHT,
    World,
    gpt2,
    llama,
    scores,
)

DRAWS = 4000
# The 1e-6 quantile of chi-square with 14 degrees of freedom.
FAR = 56.5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def misfit(drawn, law):
    """Pearson's statistic of draws ``(K, LONGEST)`` against the law of all answers."""
    place = torch.tensor([9, 3, 1])
    order = {code: k for k, code in enumerate((ANSWERS * place).sum(-1).tolist())}
    found = torch.tensor([order[code] for code in (drawn * place).sum(-1).tolist()])
    seen = torch.bincount(found, minlength=len(ANSWERS)) / len(found)
    return (len(found) * (seen - law) ** 2 / law).sum().item()


@pytest.fixture(scope="module")
def world():
    return World(seed=1)


def draw(world, count=DRAWS, mixed=0, prompt=PROMPT, before=BEFORE, **more):
    return sample_answers(
        world.policy, prompt, before, count, LONGEST, ends=[END], generator=generator(),
        mixed=mixed, reference=world.reference, weight=WEIGHT, **more,
    )  # fmt: skip


def test_draws_follow_policy_and_mixture(world):
    drawn = draw(world, DRAWS, DRAWS)[0]
    assert drawn.shape == (2 * DRAWS, LONGEST)
    law, mixed = world.law.detach(), world.mixed
    assert misfit(drawn[:DRAWS], law) < FAR
    assert misfit(drawn[DRAWS:], mixed) < FAR
    assert misfit(drawn[DRAWS:], law) > 2 * FAR  # so that the test can fail
    assert misfit(drawn[:DRAWS], mixed) > 2 * FAR


def test_a_mixture_alone(world):
    assert misfit(draw(world, 0, DRAWS)[0], world.mixed) < FAR


def test_a_mixture_without_weight_is_the_policy(world):
    drawn = sample_answers(
        world.policy, PROMPT, BEFORE, 0, LONGEST, ends=[END], generator=generator(), mixed=DRAWS
    )
    assert misfit(drawn[0], world.law.detach()) < FAR


def test_a_mixture_of_weight_one_is_the_reference(world):
    drawn = sample_answers(
        world.policy, PROMPT, BEFORE, 0, LONGEST, ends=[END], generator=generator(), mixed=DRAWS,
        reference=world.reference, weight=1.0,
    )  # fmt: skip
    assert misfit(drawn[0], world.base.sum(-1).exp()) < FAR


def test_temperature_is_of_the_law_that_is_scored(world):
    law = scores(world.policy, temperature=0.5).detach().sum(-1).exp()
    assert misfit(draw(world, temperature=0.5)[0], law) < FAR


@pytest.mark.parametrize("make", [gpt2, llama])
def test_prompts_of_unequal_length_in_one_batch(make):
    """Each row follows the law that its prompt has alone."""
    world = World(make=make, seed=5)
    prompts = torch.tensor([[0, 0, 0, 1], [1, 2, 1, 0], [0, 0, 2, 0]])  # also with the end inside
    before = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]])
    drawn = draw(world, DRAWS, prompt=prompts, before=before)
    for row, length in enumerate((1, 4, 2)):
        alone = scores(
            world.policy, prompt=prompts[row : row + 1, 4 - length :],
            before=torch.ones(1, length, dtype=torch.long),
        ).detach()  # fmt: skip
        law = alone.sum(-1).exp()
        assert misfit(drawn[row], law) < FAR
        assert misfit(drawn[(row + 1) % 3], law) > 2 * FAR


def test_caches_agree_with_reading_all_again():
    """Greedy at a low temperature, with long answers and unequal prompts."""
    policy, reference = gpt2(21, vocabulary=40), gpt2(22, vocabulary=40)
    prompts = torch.randint(3, 40, (3, 5), generator=generator(3))
    before = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]])
    drawn = sample_answers(
        policy, prompts, before, 1, 12, ends=[END], generator=generator(), temperature=1e-4,
        mixed=1, reference=reference, weight=0.4,
    )  # fmt: skip
    for row in range(3):
        start = prompts[row][before[row].bool()]
        for mine, weight in ((drawn[row, 0], 0.0), (drawn[row, 1], 0.4)):
            text = start
            for token in mine.tolist():
                with torch.no_grad():
                    ours, theirs = (m(input_ids=text[None]).logits[0, -1]
                                    for m in (policy, reference))  # fmt: skip
                best = geometric_mixture(ours, theirs, weight).argmax().item()
                assert best == token
                if token == END:
                    break
                text = torch.cat([text, torch.tensor([token])])


def test_behind_the_end_it_is_repeated(world):
    drawn = draw(world, 200)[0]
    ended = (drawn == END).cummax(-1).values
    assert bool((drawn == END)[ended].all())
    mask = answer_mask(drawn, [END])
    assert bool((mask.sum(-1) == (~ended).sum(-1) + ended.any(-1).long()).all())


def test_several_tokens_may_end_an_answer():
    answers = torch.tensor([[1, 7, 7, 9], [9, 9, 9, 9], [1, 1, 1, 1]])
    expected = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert answer_mask(answers, [7, 9]).int().tolist() == expected


def test_one_seed_is_one_answer(world):
    assert torch.equal(draw(world, 5, 5), draw(world, 5, 5))


def test_no_gradient_flows_and_nothing_is_left_behind(world):
    before = [p.clone() for p in world.policy.parameters()]
    assert not draw(world, 5, 5).requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, world.policy.parameters(), strict=True))
    assert all(p.grad is None for p in world.policy.parameters())


def test_half_precision_is_scored_in_single():
    model = gpt2(1, dtype=torch.bfloat16)
    assert scores(model).dtype == torch.float32
    logits = torch.randn(2, 5, generator=generator()).bfloat16()
    assert geometric_mixture(logits, logits, 0.5).dtype == torch.float32


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_mixture_is_the_softmax_of_weighted_logits(weight):
    ours, theirs = torch.randn(2, 6, 50, generator=generator()).unbind(0)
    expected = ((1 - weight) * ours + weight * theirs).log_softmax(-1)
    torch.testing.assert_close(geometric_mixture(ours, theirs, weight), expected, rtol=0, atol=1e-6)
    many = torch.full((6,), weight)
    torch.testing.assert_close(geometric_mixture(ours, theirs, many), expected, rtol=0, atol=1e-6)


# What is refused.


def test_pads_on_the_wrong_side_are_refused(world):
    rows = (ANSWERS[:1], answer_mask(ANSWERS[:1], [END]))
    with pytest.raises(ValueError, match=r"prompt_mask: .* pads on the left alone"):
        sequence_log_probs(world.policy, PROMPT, torch.tensor([[1, 1, 0, 0]]), *rows)
    with pytest.raises(ValueError, match=r"prompt_mask: .* pads on the left alone"):
        sequence_log_probs(world.policy, PROMPT, torch.tensor([[1, 0, 1, 1]]), *rows)
    with pytest.raises(ValueError, match=r"answer_mask: .* pads on the right alone"):
        sequence_log_probs(
            world.policy, PROMPT, BEFORE, rows[0], torch.tensor([[False, True, True]])
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": PROMPT.float()}, "prompts: expected a tensor of integers"),
        ({"answers": ANSWERS[:1].int()}, "answers: expected a tensor of integers"),
        ({"prompt_mask": BEFORE.float()}, "prompt_mask: expected truth values"),
        ({"prompt_mask": 2 * BEFORE}, "prompt_mask: expected 0 or 1"),
        ({"prompt_mask": BEFORE[:, 1:]}, "prompt_mask: expected shape"),
        ({"answer_mask": torch.ones(1, 2, dtype=torch.bool)}, "answer_mask: expected shape"),
        ({"answers": ANSWERS[:2]}, "answers: expected shape"),
        ({"prompts": PROMPT[:, :0]}, "prompts: expected at least one token a row, got none"),
        ({"answers": ANSWERS[:1, :0]}, "answers: expected at least one token a row, got none"),
        ({"temperature": 0.0}, "temperature: expected a finite number > 0"),
    ],
)
def test_wrong_arguments_of_the_scores(world, change, message):
    mask = answer_mask(ANSWERS[:1], [END])
    given = {"prompts": PROMPT, "prompt_mask": BEFORE, "answers": ANSWERS[:1], "answer_mask": mask}
    with pytest.raises((TypeError, ValueError), match=message):
        sequence_log_probs(world.policy, **(given | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count, mixed: expected at least one answer"),
        ({"count": -1}, "count: expected a whole number >= 0"),
        ({"mixed": 1, "weight": 0.5}, "reference: expected a model for the mixture, got None"),
        ({"weight": 1.5}, r"weight: expected a number in \[0, 1\]"),
        ({"new_tokens": 0}, "new_tokens: expected a whole number >= 1"),
        ({"temperature": -1.0}, "temperature: expected a finite number > 0"),
        ({"prompt_mask": BEFORE[:, 1:]}, "prompt_mask: expected shape"),
    ],
)
def test_wrong_arguments_of_the_sampler(world, change, message):
    given = {"prompts": PROMPT, "prompt_mask": BEFORE, "count": 1, "new_tokens": 2,
             "ends": [END], "generator": generator()}  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=message):
        sample_answers(world.policy, **(given | change))


def test_wrong_mixtures():
    logits = torch.zeros(2, 3)
    for wrong, message in [
        ((logits, torch.zeros(2, 4), 0.5), "reference_logits: expected shape"),
        ((logits, torch.full((2, 3), torch.nan), 0.5), "reference_logits: expected logits without"),
        ((logits, logits.double(), 0.5), "reference_logits: expected torch.float32"),
        ((logits, logits, 1.5), "weight: expected"),
        ((logits, logits, torch.zeros(3)), "weight: expected a shape"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            geometric_mixture(*wrong)
