"""The denoiser, its loss, decoding and inpainting; goals."""

import pytest
import torch

from mdtheory.rl import reflective_planning as rp
from mdtheory.rl.reflective_planning import laws as lw
from tests.rl.reflective_planning_cases import CV, F64, NOTHING, draws, road_world, table


class Told:
    """A model with the same logits whatever it sees; it keeps what it was shown."""

    def __init__(self, logits):
        self.logits, self.mask, self.length = logits, logits.shape[-1], logits.shape[-2]
        self.seen = []

    def __call__(self, tokens, condition):
        self.seen.append(tokens.clone())
        return self.logits.expand(*tokens.shape, self.mask)


def sharpness(values, codes=5):
    """Logits whose likeliest code has the given probability, code i mod 5 at place i."""
    law = torch.full((len(values), codes), 0.0, dtype=F64)
    for i, p in enumerate(values):
        law[i] = (1 - p) / (codes - 1)
        law[i, i % codes] = p
    return law.log()


def test_decoding_reveals_the_most_confident_first():
    model = Told(sharpness([0.5, 0.9, 0.6, 0.8, 0.7]))
    condition = torch.zeros(2, 1, 1)
    plan = rp.decode(model, condition, 3)
    assert plan.tolist() == [[0, 1, 2, 3, 4]] * 2
    shown = [(tokens[0] != model.mask).nonzero()[:, 0].tolist() for tokens in model.seen]
    assert shown == [[], [1, 3], [1, 2, 3, 4]]  # ceil(5/3), ceil(10/3), 5


def test_ties_go_to_the_first():
    model = Told(sharpness([0.5] * 4))
    rp.decode(model, torch.zeros(1, 1, 1), 4)
    assert [(t != model.mask).sum().item() for t in model.seen] == [0, 1, 2, 3]
    assert all((t[0, :k] != model.mask).all() for k, t in enumerate(model.seen))


@pytest.mark.parametrize("order", ["confidence", "certainty", "random"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_inpainting_leaves_the_rest(order, temperature):
    model = Told(torch.randn(6, 5, generator=draws(1), dtype=F64))
    tokens = torch.randint(6, (40, 6), generator=draws(2))  # 5 is the mask
    for steps in (1, 2, 6, 9):
        filled = rp.inpaint(model, tokens, torch.zeros(40, 1, 1), steps, temperature, order=order,
                            generator=draws(3))  # fmt: skip
        assert torch.equal(filled[tokens < 5], tokens[tokens < 5])
        assert (filled < 5).all()
    assert (tokens == 5).any()


def test_draws_have_the_law_that_is_enumerated():
    model, many = table(2, 3, 4), 10_000
    condition = torch.zeros(many, 1, 1)
    for order in ("confidence", "certainty", "random"):
        for steps in (1, 2, 3):
            drawn = rp.decode(model, condition, steps, 1.0, order=order, generator=draws(5))
            index = (drawn * torch.tensor([4, 2, 1])).sum(-1)
            share = torch.bincount(index, minlength=8).double() / many
            assert (share - lw.decoding_law(model, steps, order)).abs().max() < 0.02


def test_low_temperatures_are_the_greedy_plan():
    model = table(3, 4, 1)
    cold = rp.decode(model, torch.zeros(50, 1, 1), 4, 1e-3, generator=draws(0))
    assert torch.equal(cold, rp.decode(model, torch.zeros(50, 1, 1), 4))


@pytest.mark.parametrize("weighted", [True, False])
def test_the_drawn_loss_has_the_enumerated_mean(weighted):
    model = table(3, 4, 2)
    tokens = torch.tensor([1, 0, 2, 1])
    exact = lw.enumerated_loss(model, tokens[None], NOTHING, 3, weighted)
    drawn = rp.masked_loss(model, tokens.expand(20_000, 4), NOTHING, draws(1), weighted)
    assert abs(drawn.item() - exact.item()) < 0.12


def test_the_network_knows_masks_and_conditions():
    model = rp.MaskedDenoiser(7, 3, 16, 1, length=4, generator=draws(1))
    tokens = torch.randint(8, (5, 4), generator=draws(2))
    condition = torch.randn(5, 2, 3, generator=draws(3))
    logits = model(tokens, condition)
    assert logits.shape == (5, 4, 7)
    assert not torch.allclose(logits, model(tokens, condition.flip(-1)))
    # Rows of the condition are a set: their order says nothing.
    torch.testing.assert_close(logits, model(tokens, condition.flip(-2)))
    again = rp.MaskedDenoiser(7, 3, 16, 1, length=4, generator=draws(1))
    assert torch.equal(logits, again(tokens, condition))
    default = rp.MaskedDenoiser(7, 3)
    assert torch.equal(default.embedding, rp.MaskedDenoiser(7, 3).embedding)


def test_copies_are_networks_side_by_side():
    both = rp.MaskedDenoiser(7, 3, 16, 2, length=4, copies=2, generator=draws(1))
    tokens = torch.randint(8, (2, 5, 4), generator=draws(2))
    condition = torch.randn(2, 5, 2, 3, generator=draws(3))
    logits = both(tokens, condition)
    for k in range(2):
        one = rp.MaskedDenoiser(7, 3, 16, 2, length=4)
        for name, part in one.named_parameters():
            part.data = dict(both.named_parameters())[name].data[k].reshape(part.shape)
        torch.testing.assert_close(logits[k], one(tokens[k], condition[k]), rtol=1e-4, atol=1e-5)
    other = both(torch.stack([tokens[0], tokens[0]]), condition)
    torch.testing.assert_close(other[0], logits[0])


def test_training_in_copies_learns_and_keeps_them_apart():
    tokens = lw.all_sequences(3, 4)[::20]
    condition = torch.ones(len(tokens), 1, 2)
    model, losses = rp.train_denoiser(
        tokens, condition, draws(1), codes=3, steps=150, batch=24, width=16, layers=1, copies=2
    )
    assert losses.shape == (150, 2)
    assert (losses[-20:].mean(0) < 0.8 * losses[:20].mean(0)).all()
    assert not torch.equal(model.embedding[0], model.embedding[1])


def test_a_planner_learns_the_road():
    _, losses, scene, _, drafts = road_world()
    assert losses[-20:].mean() < 0.65 * losses[:5].mean()
    scores = rp.planning_score(scene, rp.waypoints_of(drafts))
    guess = torch.randint(rp.PLANS.size, drafts.shape, generator=draws(1))
    assert scores.total.mean() > 0.3 > rp.planning_score(scene, rp.waypoints_of(guess)).total.mean()


# Goals.


def test_goals_are_likely_and_apart():
    model, _, _scene, seen, _ = road_world()
    goals = rp.goal_proposals(model, seen, 3, 3.0)
    assert goals.shape == (300, 3, 2)
    place = rp.PLANS.values(goals)
    gap = (place[:, :, None] - place[:, None]).norm(dim=-1) + 100 * torch.eye(3)
    same = (goals[:, :, None] == goals[:, None]).all(-1) & ~torch.eye(3, dtype=torch.bool)
    assert (gap[~same] >= 3.0).all()
    # The likeliest goal by the chain of both coordinates, over all codes.
    masks = torch.full((5, 16), model.mask)
    first = model(masks, seen[:5])[:, -2].log_softmax(-1)
    for b in range(5):
        many = masks[:1].repeat(rp.PLANS.size, 1)
        many[:, -2] = torch.arange(rp.PLANS.size)
        second = model(many, seen[b].expand(rp.PLANS.size, -1, -1))[:, -1].log_softmax(-1)
        best = (first[b][:, None] + second).flatten().argmax()
        assert goals[b, 0].tolist() == [best // rp.PLANS.size, best % rp.PLANS.size]


def test_plans_with_goals_keep_a_goal_and_are_the_best_of_them():
    model, _, scene, seen, _ = road_world()
    goals = rp.goal_proposals(model, seen, 4, 1.0)
    plans = rp.plan_with_goals(model, scene, seen, CV, 4, 1.0)
    kept = (plans[:, None, -2:] == goals).all(-1)
    assert kept.any(-1).all()
    more = CV(scene, rp.waypoints_of(plans)).total
    for k in range(4):
        masks = torch.full((300, 16), model.mask)
        masks[:, -2:] = goals[:, k]
        one = rp.inpaint(model, masks, seen, 5)
        assert (more >= CV(scene, rp.waypoints_of(one)).total - 1e-6).all()


def test_best_plan_takes_the_first_of_equals():
    _, _, scene, _, drafts = road_world()
    both = torch.stack([drafts, drafts.roll(1, 0), drafts], 1)
    best = rp.best_plan(scene, both, CV)
    score = CV(scene[:, None], rp.waypoints_of(both)).total
    assert torch.equal(CV(scene, rp.waypoints_of(best)).total, score.amax(1))
