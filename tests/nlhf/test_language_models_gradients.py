"""The expected gradient of every loss, by enumeration of all answers."""

import pytest
import torch

from mdtheory.nlhf.language_models import (
    ipo_loss,
    mirror_prox_loss,
    opponent_loss,
    pairs_loss,
    reward_loss,
    self_play_loss,
)
from mdtheory.nlhf.nash_md import policy_gradient_surrogate
from mdtheory.nlhf.online_preference.losses import dpo_loss
from tests.nlhf.language_models_cases import (
    ANSWERS,
    BEFORE,
    MASK,
    PROMPT,
    TAU,
    World,
    apart,
    cosine,
    llama,
    scores,
)

STEP = 2.0
CLOSE = 1e-9


@pytest.fixture(scope="module", params=[1, 11])
def world(request):
    return World(seed=request.param)


@pytest.fixture(scope="module")
def rotary():
    """Its norm and its angles are computed in float32, whatever the weights are."""
    return World(make=llama)


def test_the_laws_are_whole(world):
    assert len(ANSWERS) == 15
    for total in (world.law.sum(), world.mixed.sum(), world.base.sum(-1).exp().sum()):
        assert abs(total.item() - 1) < 1e-12


def test_left_pads_change_nothing(world):
    bare = scores(world.policy, prompt=PROMPT[:, 2:], before=BEFORE[:, 2:])
    assert (bare - world.own).abs().max() < 1e-12


def nash_md(world, credit="to-go"):
    """Nash-MD-PG with its opponent's answers enumerated, too; other credits are written out."""
    won = world.preference @ world.mixed
    if credit == "to-go":
        return opponent_loss(world.own[:, None], world.base[:, None], won[:, None, None], TAU)
    return -policy_gradient_surrogate(world.own, world.base, won, TAU, credit)


@pytest.mark.parametrize("credit", ["to-go", "sequence"])
def test_nash_md_ascends_its_objective(world, credit):
    assert apart(world.drawn(nash_md(world, credit)), world.against(world.mixed)) < CLOSE


def test_nash_md_with_groups_of_opponents(world):
    """Two answers and two opponents, each drawn independently: 15 to the fourth groups."""
    pairs = torch.cartesian_prod(torch.arange(15), torch.arange(15))
    chance = world.law.detach()[pairs].prod(-1)
    other = world.mixed[pairs].prod(-1)
    # Preferences are linear in the opponents, so their mean can be taken first.
    won = world.preference[pairs][:, :, pairs].mean(-1) @ other
    loss = opponent_loss(world.own[pairs], world.base[pairs], won[..., None], TAU)
    assert apart(world.gradient((chance * loss).sum()), world.against(world.mixed)) < CLOSE


def test_nash_ema_ascends_against_the_average(world):
    opponent = world.slow.sum(-1).exp()
    won = (world.preference @ opponent)[:, None, None]
    found = world.drawn(opponent_loss(world.own[:, None], world.base[:, None], won, TAU))
    assert apart(found, world.against(opponent)) < CLOSE


@pytest.mark.parametrize("tau", [0.0, TAU])
def test_self_play_ascends_against_itself(world, tau):
    def loss(both):
        return self_play_loss(world.own[both], world.base[both], world.table(both), tau)

    truth = world.against(world.law.detach(), tau)
    assert apart(world.expected(loss, world.law), truth) < CLOSE


def test_mirror_prox_keeps_to_the_average(world):
    def loss(both):
        return mirror_prox_loss(
            world.own[both], world.base[both], world.slow[both], world.table(both), TAU, STEP
        )

    near = world.gradient(world.divergence(world.slow)) / STEP
    truth = world.against(world.law.detach()) + near
    assert apart(world.expected(loss, world.law), truth) < CLOSE
    assert apart(world.expected(loss, world.law), world.against(world.law.detach())) > 0.1


def test_an_endless_step_is_self_play(world):
    both = torch.tensor([[0, 1], [3, 3]])
    played = self_play_loss(world.own[both], world.base[both], world.table(both), TAU)
    kept = mirror_prox_loss(
        world.own[both], world.base[both], world.slow[both], world.table(both), TAU, float("inf")
    )
    torch.testing.assert_close(kept, played, rtol=0, atol=1e-14)


def ipo(world):
    def loss(both):
        return ipo_loss(world.own[both], world.base[both], world.table(both), TAU)

    return loss


def test_online_ipo_is_self_play(world):
    truth = world.against(world.law.detach())
    assert apart(world.expected(ipo(world), world.law), truth) < CLOSE


def ipo_md(world, centred):
    ratio = (world.own - world.base).sum(-1).detach()
    ratio = ratio - (world.mixed @ ratio if centred else 0.0)
    gain = world.preference @ world.mixed - 0.5 - TAU * ratio
    return world.gradient(-(world.mixed * world.own.sum(-1) * gain).sum())


def test_ipo_md_is_its_centred_form_and_not_the_other(world):
    found = world.expected(ipo(world), world.mixed)
    assert apart(found, ipo_md(world, centred=True)) < CLOSE
    assert apart(found, ipo_md(world, centred=False)) > 0.01


def test_online_dpo_has_the_gradient_of_its_fixed_point(world):
    def loss(both):
        return pairs_loss(dpo_loss, world.own[both], world.base[both], world.table(both), TAU)

    ratio = (world.own - world.base).sum(-1).detach()
    expected = (TAU * (ratio[:, None] - ratio)).sigmoid()
    law = world.law.detach()
    gain = (world.preference - expected) @ law
    truth = world.gradient(-2 * TAU * (law * world.own.sum(-1) * gain).sum())
    assert apart(world.expected(loss, world.law), truth) < CLOSE


def test_rewards_are_ascended(world):
    def loss(both):
        return reward_loss(world.own[both], world.base[both], world.reward[both], TAU)

    value = (world.law * world.reward).sum() - TAU * world.divergence(world.base)
    assert apart(world.expected(loss, world.law), -world.gradient(value)) < CLOSE


# Mutants: on the same instances, each is far off where the true form is exact.


def test_the_local_credit_is_biased(world):
    found, truth = world.drawn(nash_md(world, "local")), world.against(world.mixed)
    assert apart(found, truth) > 0.05
    assert cosine(found, truth) < 0.999
    assert apart(world.drawn(nash_md(world)), truth) < CLOSE


def test_tokens_behind_the_end_do_not_count(world):
    every = torch.ones_like(MASK)
    own, base = scores(world.policy, mask=every), scores(world.reference, mask=every).detach()
    won = (world.preference @ world.mixed)[:, None, None]
    found = world.drawn(opponent_loss(own[:, None], base[:, None], won, TAU))
    assert apart(found, world.against(world.mixed)) > 0.1


def test_no_division_by_the_length(world):
    found = world.drawn(nash_md(world) / MASK.sum(-1))
    assert apart(found, world.against(world.mixed)) > 0.1


def test_what_is_drawn_must_be_what_is_scored(world):
    """Answers at temperature 0.9, log-probabilities at 1; and the law that is scored as drawn."""
    cold = scores(world.policy, temperature=0.9)
    law = cold.sum(-1).exp().detach()
    assert abs(law.sum().item() - 1) < 1e-12
    assert apart(world.drawn(nash_md(world), law), world.against(world.mixed)) > 0.01
    base = scores(world.reference, temperature=0.9).detach()
    won = (world.preference @ world.mixed)[:, None, None]
    found = world.drawn(opponent_loss(cold[:, None], base[:, None], won, TAU), law)
    value = cold.sum(-1).exp() * (world.preference @ world.mixed - TAU * (cold - base).sum(-1))
    assert apart(found, -world.gradient(value.sum())) < CLOSE


def test_the_diagonal_would_be_another_game(world):
    def kept(both):
        won = world.table(both).mean(-1)
        return -policy_gradient_surrogate(world.own[both], world.base[both], won, TAU).mean(-1)

    found = world.expected(kept, world.law)
    assert apart(found, world.against(world.law.detach())) > 0.01
    # Half the preference, the whole penalty: twice the temperature, at half the speed.
    assert apart(2 * found, world.against(world.law.detach(), 2 * TAU)) < CLOSE


def test_what_the_penalty_is_not(world):
    """Three estimates of a divergence, taken as losses."""
    ratio = world.own - world.base
    truth = world.gradient(world.divergence(world.base))
    assert world.drawn(ratio.sum(-1)).norm() < 1e-12 * truth.norm() + 1e-13
    third = ((-ratio).exp() - 1 + ratio).sum(-1)
    assert cosine(world.drawn(third), truth) < 0.99
    assert apart(world.drawn(ratio.sum(-1) ** 2 / 2), truth) < CLOSE
    assert apart(world.drawn((ratio**2).sum(-1) / 2), truth) > 0.05


def test_a_llama_is_exact_as_far_as_its_float32_goes(rotary):
    assert apart(rotary.drawn(nash_md(rotary)), rotary.against(rotary.mixed)) < 1e-5
    assert apart(rotary.drawn(nash_md(rotary, "local")), rotary.against(rotary.mixed)) > 0.05
