"""Judges: both orders, tables of groups, and models that learn from labelled pairs."""

import itertools

import pytest
import torch

from mdtheory.nlhf.language_models import PreferenceModel, RewardModel, Rewards
from mdtheory.nlhf.language_models import grammar as world
from mdtheory.nlhf.language_models.judging import judged, table_between, table_within
from mdtheory.nlhf.nash_md import PreferenceGame, regularized_nash
from tests.nlhf.language_models_training import TOPICS, spoken, words

FORM = "{prompt} first {first} second {second} answer"


def biased(prompts, first, second):
    """Longer wins, and the first place is worth a tenth."""
    sign = [(len(a) > len(b)) - (len(a) < len(b)) for a, b in zip(first, second, strict=True)]
    return [0.5 + 0.3 * s + 0.1 for s in sign]


def test_what_the_place_is_worth_cancels():
    found = judged(biased, ["x"] * 3, ["a", "bb", "c"], ["bb", "a", "d"])
    torch.testing.assert_close(found, torch.tensor([0.2, 0.8, 0.5]))


def test_one_that_is_antisymmetric_is_asked_once():
    asked = []

    def judge(prompts, first, second):
        asked.append(len(first))
        return torch.full((len(first),), 0.7)

    judged(judge, ["x"] * 3, ["a"] * 3, ["b"] * 3)
    judge.antisymmetric = True
    judged(judge, ["x"] * 3, ["a"] * 3, ["b"] * 3)
    assert asked == [6, 3]


def test_tables_hold_every_pair():
    prompts, own, other = ["p", "q"], [["a", "bb"], ["ccc", "d"]], [["e"] * 3, ["ff"] * 3]
    table = table_between(biased, prompts, own, other)
    assert table.shape == (2, 2, 3)
    for at, i, j in itertools.product(range(2), range(2), range(3)):
        one = judged(biased, [prompts[at]], [own[at][i]], [other[at][j]])
        torch.testing.assert_close(table[at, i, j], one[0])
    within = table_within(biased, prompts, own)
    torch.testing.assert_close(within + within.mT, torch.ones(2, 2, 2))
    torch.testing.assert_close(within[0], torch.tensor([[0.5, 0.2], [0.8, 0.5]]))


def test_rewards_are_asked_once_an_answer():
    asked = []

    def length(prompts, answers):
        asked.append(len(answers))
        return [float(len(answer)) for answer in answers]

    own, other = [["a", "bbb"]], [["cc", "dd", "e"]]
    table = table_between(Rewards(length), ["p"], own, other)
    assert asked == [5]
    expected = torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 2.0]]).sigmoid()
    torch.testing.assert_close(table[0], expected)
    torch.testing.assert_close(judged(Rewards(length), ["p"], ["bbb"], ["cc"]),
                               torch.tensor([1.0]).sigmoid())  # fmt: skip
    torch.testing.assert_close(table_within(Rewards(length), ["p"], own).diagonal(dim1=1, dim2=2),
                               torch.full((1, 2), 0.5))  # fmt: skip


# The grammar's judge.


def test_the_classes_go_in_a_circle():
    table = world.class_preferences(0.1)
    torch.testing.assert_close(table + table.mT, torch.ones(7, 7, dtype=torch.float64))
    brief, warm, precise = 1, 3, 5
    for one, other in ((brief, warm), (warm, precise), (precise, brief)):
        assert table[one, other] == 0.9
        assert table[one - 1, other - 1] == 0.9
    assert bool((table[1::2][:, [0, 2, 4, 6]] == 0.9).all())
    assert bool((table[:6, 6] == 0.9).all())
    # No answer wins all, and at no temperature worth the name is the equilibrium one class.
    assert bool(((table > 0.5).sum(-1) < 6).all())
    even = torch.full((7,), 1 / 7, dtype=torch.float64).log()
    star = regularized_nash(PreferenceGame(table, even, 0.02)).exp()
    torch.testing.assert_close(star[[1, 3, 5]], torch.full((3,), star[1].item()).double())
    assert star[[1, 3, 5]].sum() > 0.99
    with pytest.raises(ValueError, match=r"noise: expected a number in \[0, 0.5\]"):
        world.class_preferences(0.6)


def test_annotators_know_classes():
    assert len(world.SENTENCES) == 48
    assert world.class_of("film", "film is good") == 1
    assert world.class_of("film", "book is good") == 0
    assert world.class_of("trip", "i adore the trip so much") == 3
    assert world.class_of("trip", "the trip scores six of ten") == 5
    assert world.class_of("trip", "trip scores") == world.OUTSIDE
    judge = world.Annotators()
    said = judge(["film", "film"], ["film is good", "nonsense"], ["film is nice", "book is nice"])
    torch.testing.assert_close(said, torch.tensor([0.5, 0.1], dtype=torch.float64))


def test_shares_are_those_of_samples():
    """Exact shares against 4,000 answers to a topic."""
    from mdtheory.nlhf.language_models import sample_answers

    model = spoken().float()
    shares = world.exact_shares(model).exp()
    torch.testing.assert_close(shares.sum(-1), torch.ones(4, dtype=torch.float64))
    tokens = torch.tensor(words()(TOPICS)["input_ids"])
    drawn = sample_answers(
        model, tokens, torch.ones_like(tokens), 4000, world.LONGEST, ends=[0],
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    for topic, answers, share in zip(TOPICS, drawn, shares, strict=True):
        texts = words().batch_decode(answers, skip_special_tokens=True)
        seen = torch.bincount(
            torch.tensor([world.class_of(topic, text) for text in texts]), minlength=7
        )
        expected = 4000 * share
        assert ((seen - expected) ** 2 / expected.clamp_min(1)).sum() < 40


def test_supervision_lowers_the_loss_to_what_the_corpus_says():
    generator = torch.Generator().manual_seed(3)
    losses = world.supervise(world.decoder(generator), generator, steps=150)
    # In nats: style, topic, filling.
    styles = -sum(p * torch.tensor(p).log().item() for p in world.STYLE_SHARES)
    right, stray = 0.85, 0.05
    topics = -(right * torch.tensor(right).log() + 3 * stray * torch.tensor(stray).log()).item()
    least = styles + topics + torch.tensor(4.0).log().item()
    assert losses[0] > 3 * least
    assert least - 0.2 < sum(losses[-20:]) / 20 < least + 0.5


# Models that learn from pairs.


def labelled(count, seed=0):
    """Pairs of sentences of the corpus, with the annotators' probabilities as labels."""
    generator = torch.Generator().manual_seed(seed)
    first, second = world.corpus(count, generator), world.corpus(count, generator)
    prompts, one, two = [p for p, _ in first], [a for _, a in first], [a for _, a in second]
    label = world.Annotators()(prompts, one, two).tolist()
    fields = zip(prompts, one, two, label, strict=True)
    return [dict(zip(("prompt", "first", "second", "label"), f, strict=True)) for f in fields]


def columns(pairs):
    return tuple([pair[name] for pair in pairs] for name in ("prompt", "first", "second"))


def error(judge, pairs):
    wanted = torch.tensor([pair["label"] for pair in pairs])
    return (judge(*columns(pairs)).float() - wanted).abs().mean().item()


@pytest.fixture(scope="module")
def learned():
    model = PreferenceModel(spoken().float(), words(), form=FORM)
    losses = model.fit(
        labelled(1500), torch.Generator().manual_seed(1), epochs=3, learning_rate=3e-3
    )
    return model, losses


def test_a_preference_model_learns_circles(learned):
    model, losses = learned
    assert losses[0] == pytest.approx(torch.tensor(2.0).log().item())  # even at first
    assert error(model, labelled(300, 7)) < 0.15
    styles = ["film is good", "i love the film so much", "the film scores six of ten"]
    found = model(["film"] * 3, styles, [*styles[1:], styles[0]])
    assert bool((found > 0.6).all())


def test_a_preference_model_is_antisymmetric(learned):
    prompts, first, second = columns(labelled(50, 8))
    ahead, behind = learned[0](prompts, first, second), learned[0](prompts, second, first)
    torch.testing.assert_close(ahead + behind, torch.ones(50))
    few = learned[0](prompts, first, second, rows=7)
    torch.testing.assert_close(few, ahead, rtol=1e-4, atol=1e-5)


def test_a_reward_cannot_learn_circles():
    model = RewardModel(spoken().float(), words(), form="{prompt} {answer} answer")
    model.fit(labelled(1500), torch.Generator().manual_seed(1), epochs=3, learning_rate=3e-3)
    judge = Rewards(model.rewards)
    styles = ["film is good", "i love the film so much", "the film scores six of ten"]
    found = judge(["film"] * 3, styles, [*styles[1:], styles[0]])
    assert not bool((found > 0.5).all())
    torch.testing.assert_close(found.logit().sum(), torch.tensor(0.0), rtol=0, atol=1e-3)
    # The right topic it knows.
    assert judge(["film"], ["film is good"], ["book is good"]).item() > 0.7


@pytest.mark.parametrize("kind", [PreferenceModel, RewardModel])
def test_readers_are_saved_and_loaded(kind, tmp_path):
    form = FORM if kind is PreferenceModel else "{prompt} {answer} answer"
    model = kind(spoken().float(), words(), form=form)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    model.save(tmp_path)
    again = kind.load(tmp_path)
    prompts, first, second = columns(labelled(9))
    torch.testing.assert_close(
        again.logits(prompts, first, second), model.logits(prompts, first, second)
    )
    other = RewardModel if kind is PreferenceModel else PreferenceModel
    with pytest.raises(ValueError, match=f"path: expected a folder of {other.__name__}.save"):
        other.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="path: expected a folder"):
        kind.load(tmp_path / "nothing")


PAIR = {"prompt": "film", "first": "a", "second": "b", "label": 1}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "pairs: expected at least one pair"),
        (["film"], r"pairs\[0\]: expected fields prompt, first, second, label, got str"),
        ([PAIR, {"prompt": "film"}], r"pairs\[1\]: .* got none of \['first', 'second', 'label'\]"),
        ([PAIR | {"label": 2}], r"pairs\[0\]: label: expected a number in \[0, 1\]"),
        ([PAIR | {"first": 3}], r"pairs\[0\]: expected a text as first, got 3"),
    ],
)
def test_wrong_pairs(pairs, message):
    model = PreferenceModel(spoken().float(), words(), form=FORM)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(pairs, torch.Generator())


def test_wrong_readers():
    with pytest.raises(ValueError, match=r"form: expected a text with {second}"):
        PreferenceModel(spoken(), words(), form="{prompt} {first}")
    with pytest.raises(TypeError, match="tokenizer: expected one with a model that is an object"):
        PreferenceModel(spoken())
    model = PreferenceModel(spoken(), words(), form=FORM)
    with pytest.raises(ValueError, match="prompt, first, second: expected at most 32 tokens"):
        model(["film"], ["film " * 40], ["film"])
