"""Losses of pairs and their expectations: values, shapes, kinds, gradients of networks."""

import math
import re

import pytest
import torch

from mdtheory.nlhf import online_preference as op
from mdtheory.nlhf.nash_md import PreferenceGame, best_response, mixture, regularized_nash, span

F64 = torch.float64
PAIR = tuple(torch.tensor(v, dtype=F64) for v in (-1.0, -3.0, -2.0, -2.5))
H = 1.5  # the margin of this pair
EVEN = torch.full((3,), 1 / 3, dtype=F64).log()
CYCLE = 0.5 + torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64) / 4


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


VALUES = {
    "margin": (op.log_ratio_margin(*PAIR), H),
    "ipo": (op.ipo_loss(*PAIR, 0.5), (H - 1) ** 2),
    "contrast": (op.ipo_contrast_loss(*PAIR, 0.5), 0.5 * H**2 - 2),
    "dpo": (op.dpo_loss(*PAIR, 0.5), -math.log(sigmoid(0.75))),
    "slic": (op.slic_loss(*PAIR, 0.5), 0.25),
    "slic, wide": (op.slic_loss(*PAIR, 0.5, margin=2.0), 1.25),
    "slic, beyond": (op.slic_loss(*PAIR, 2.0), 0.0),
    "kto, liked": (
        op.kto_loss(PAIR[0], PAIR[2], torch.tensor(True), 0.5, 0.2), 1 - sigmoid(0.5 * 0.8),
    ),
    "kto, disliked": (
        op.kto_loss(PAIR[0], PAIR[2], torch.tensor(False), 0.5, 0.2), 1 - sigmoid(-0.5 * 0.8),
    ),
    "sppo": (op.sppo_loss(PAIR[0], PAIR[2], torch.tensor(0.7, dtype=F64), 2.0), (1 - 0.4) ** 2),
    "inpo, first round": (
        op.inpo_loss(*PAIR, 0.5, PAIR[2], PAIR[3], 1.0), (H - 0.5) ** 2,
    ),
    "inpo": (
        op.inpo_loss(*PAIR, 0.5, PAIR[0], PAIR[1], 1.0), (0.5 * H - 0.5) ** 2,
    ),
    "xpo": (
        op.xpo_loss(*PAIR, 0.5, PAIR[1], 0.1), -math.log(sigmoid(0.75)) - 0.3,
    ),
    "soft": (
        op.soft_label(op.ipo_loss, torch.tensor(0.8, dtype=F64), *PAIR, 0.5),
        0.8 * (H - 1) ** 2 + 0.2 * (H + 1) ** 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "wanted"), VALUES.values(), ids=VALUES)
def test_values_by_hand(found, wanted):
    assert found.shape == ()
    assert found.item() == pytest.approx(wanted, abs=1e-12)


def test_the_two_forms_differ_by_a_constant_of_the_pair():
    reference = PAIR[2] - PAIR[3]
    left = op.ipo_contrast_loss(*PAIR, 0.3)
    right = 0.3 * op.ipo_loss(*PAIR, 0.3) - 1 / 1.2 - reference
    torch.testing.assert_close(left, right)


def test_losses_broadcast_and_keep_the_dtype():
    chosen = -torch.rand(4, 1, 3)
    other = -torch.rand(5, 3)
    tau = torch.tensor([0.1, 0.5, 1.0])
    for loss in (op.ipo_loss, op.ipo_contrast_loss, op.dpo_loss, op.slic_loss):
        found = loss(chosen, other, chosen, other, tau)
        assert found.shape == (4, 5, 3)
        assert found.dtype == torch.float32
        assert loss(chosen[:0], other, chosen[:0], other, tau).shape == (0, 5, 3)


def test_long_texts_and_large_margins_stay_finite():
    far = torch.tensor([-1e5, -2e5], dtype=F64)
    zero = torch.zeros(2, dtype=F64)
    for loss in (op.ipo_loss, op.dpo_loss, op.slic_loss):
        assert loss(far, zero, zero, far, 0.1).isfinite().all()
        assert loss(zero, far, far, zero, 0.1).isfinite().all()
    assert op.dpo_loss(zero, far, zero, zero, 1.0).tolist() == [0.0, 0.0]


def test_a_network_learns_from_any_of_the_losses():
    """A network of answers and contexts; the gradient reaches every weight."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 4, generator=generator)
    for loss in (op.ipo_loss, op.ipo_contrast_loss, op.dpo_loss, op.slic_loss):
        weight = torch.zeros(4, requires_grad=True)
        optimiser = torch.optim.Adam([weight], 0.1)
        first = None
        for _ in range(20):
            logs = (features @ weight).log_softmax(-1)
            rest = torch.full((3,), -math.log(6))
            value = loss(logs[:3], logs[3:], rest, rest, 0.1).mean()
            first = value if first is None else first
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        assert value < first


def test_expected_loss_with_two_laws_is_the_sum_over_pairs():
    generator = torch.Generator().manual_seed(1)
    policy, law, other = torch.randn(3, 3, generator=generator, dtype=F64).log_softmax(-1)
    total = 0.0
    for a in range(3):
        for b in range(3):
            drawn = law[a].exp() * other[b].exp()
            arguments = (policy[a], policy[b], EVEN[a], EVEN[b])
            turned = (policy[b], policy[a], EVEN[b], EVEN[a])
            total += drawn * CYCLE[a, b] * op.dpo_loss(*arguments, 0.3)
            total += drawn * CYCLE[b, a] * op.dpo_loss(*turned, 0.3)
    found = op.expected_loss(PreferenceGame(CYCLE, EVEN, 0.3), op.dpo_loss, policy, law, other)
    torch.testing.assert_close(found, total)


def test_batches_do_not_mix_and_temperatures_may_be_tensors():
    generator = torch.Generator().manual_seed(2)
    noise = torch.rand(3, 2, 4, 4, generator=generator, dtype=F64)
    preference = (noise + 1 - noise.mT) / 2
    policy, reference, law = torch.randn(3, 3, 2, 4, generator=generator, dtype=F64).log_softmax(-1)
    tau = 0.1 + torch.rand(3, 2, generator=generator, dtype=F64)
    weight = torch.rand(3, 2, generator=generator, dtype=F64)
    games = PreferenceGame(preference, reference, tau)
    whole = (
        op.online_ipo_gradient(games, policy),
        op.ipo_md_gradient(games, policy, weight),
        op.ipo_md_loss(games, policy, weight),
        op.ipo_gradient(games, policy, law),
        op.dpo_gradient(games, policy),
        op.response_gradient(games, policy, law),
        op.expected_loss(games, op.ipo_loss, policy, law),
        op.newton_iterates(games, 3, 0.3, weight)[-1],
        *op.contrastive_variance(games, policy),
    )
    for i in range(3):
        for j in range(2):
            game = PreferenceGame(preference[i, j], reference[i, j], tau[i, j].item())
            mine, drawn, share = policy[i, j], law[i, j], weight[i, j].item()
            alone = (
                op.online_ipo_gradient(game, mine),
                op.ipo_md_gradient(game, mine, share),
                op.ipo_md_loss(game, mine, share),
                op.ipo_gradient(game, mine, drawn),
                op.dpo_gradient(game, mine),
                op.response_gradient(game, mine, drawn),
                op.expected_loss(game, op.ipo_loss, mine, drawn),
                op.newton_iterates(game, 3, 0.3, share)[-1],
                *op.contrastive_variance(game, mine),
            )
            for one, all_ in zip(alone, whole, strict=True):
                torch.testing.assert_close(one, all_[i, j])


def test_newton_iterates_converge_to_what_each_law_asks_for():
    magnet = torch.tensor([0.2, 0.3, 0.5], dtype=F64).log()
    law = torch.tensor([0.6, 0.3, 0.1], dtype=F64).log()
    game = PreferenceGame(CYCLE, magnet, 0.2)
    online = op.newton_iterates(game, 300, 0.2)
    assert online.shape == (301, 3)
    assert span(online[-1] - regularized_nash(game)) < 1e-9
    offline = op.newton_iterates(game, 300, 0.2, sampling=law, log_policy=law)
    assert span(offline[-1] - best_response(game, law)) < 1e-9
    mixed = mixture(op.newton_iterates(game, 300, 0.2, 0.5)[-1], magnet, 0.5)
    assert span(mixed - regularized_nash(game.at(0.4))) < 1e-9
    assert op.newton_iterates(game, 0, 0.2).shape == (1, 3)


def test_relabelling_the_answers_relabels_the_gradients():
    order = torch.tensor([2, 0, 1])
    policy = torch.tensor([0.2, 0.3, 0.5], dtype=F64).log()
    turned = CYCLE[order][:, order]
    game, other = (PreferenceGame(matrix, EVEN, 0.3) for matrix in (CYCLE, turned))
    for function in (op.online_ipo_gradient, op.dpo_gradient, op.response_gradient):
        found = function(other, policy[order])
        torch.testing.assert_close(found, function(game, policy)[order])


def test_descent_is_a_softmax_step():
    start = torch.tensor([0.2, 0.3, 0.5], dtype=F64).log()
    path = op.descend(lambda p: p.exp(), start, 0.5, 2)
    assert path.shape == (3, 3)
    torch.testing.assert_close(path[1], (start - 0.5 * start.exp()).log_softmax(-1))


@pytest.mark.parametrize("name", [n for n in op.__all__ if n.endswith("_loss")])
def test_every_loss_says_its_formula_in_its_first_line(name):
    """The table of the chapter is made from it."""
    if name in ("expected_loss", "ipo_md_loss"):
        return
    first = (getattr(op, name).__doc__ or "").split("\n\n")[0]
    assert re.search(r".*?: :math:`.*`", first.replace("\n", " "))
