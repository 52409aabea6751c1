"""The small Hanabi: its rules, beliefs about the own hand, and games with a search."""

import itertools
import math

import pytest
import torch

from mdtheory.nlhf import decision_time_planning as dtp
from mdtheory.nlhf.decision_time_planning.playing import draw
from tests.nlhf.decision_time_planning_cases import F64, draws

PLAY, DISCARD, COLOUR, RANK = 0, 2, 4, 6


def begin(*cards):
    """A game with these cards on top of the deck, what is left in order below."""
    game = dtp.SmallHanabi()
    rest = torch.arange(6).repeat_interleave(game.copies).tolist()
    for card in cards:
        rest.remove(card)
    return game, game.begin(torch.tensor([[*cards, *rest]]))


def moved(game, state, *moves):
    for move in moves:
        state = game.apply(state, torch.tensor([move]))
    return state


def walked(game, state, generator, watch=()):
    """All states of games that the blueprint plays, with their moves."""
    while not state.over.all():
        number = torch.rand(len(state.turn), generator=generator, dtype=F64)
        move = torch.where(state.over, 0, draw(game.blueprint(state), number))
        after = game.apply(state, move)
        for belief in watch:
            belief.update(state, move, after)
        yield state, move, after
        state = after


# ------------------------------------------------------------------------------------------ rules


def test_a_game_move_by_move():
    # Colours 0 and 1; the first holds 0.0 and 1.2, the second 0.1 and 1.0.
    game, state = begin(0, 5, 1, 3, 2)
    assert repr(game) == "SmallHanabi(2 colours, 3 ranks)"
    assert game.legal(state)[0].tolist() == [True] * 2 + [False] * 2 + [True] * 4 + [False]
    state = moved(game, state, RANK + 1)
    assert state.possible[0, 1].long().tolist() == [[0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 1]]
    assert state.hinted[0, 1].tolist() == [True, False]
    assert state.hints.tolist() == [3]
    state = moved(game, state, PLAY + 1)  # 1.0 fits
    assert state.fireworks.tolist() == [[0, 1]]
    assert state.hand[0, 1].tolist() == [1, 2]
    assert state.possible[0, 1, 1].all()
    state = moved(game, state, PLAY + 1)  # 1.2 does not
    assert (state.lives.item(), state.score().item()) == (1, 1)
    assert state.gone[0, 5] == 1
    state = moved(game, state, DISCARD)
    assert state.hints.tolist() == [4]
    assert game.seen_by_all(state)[0].tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"^move: expected legal moves"):
        moved(game, state, DISCARD)
    lost = moved(game, moved(game, state, RANK), PLAY + 1)
    assert lost.lives.tolist() == [0]
    assert lost.over.all()
    assert lost.score().tolist() == [1]
    assert torch.equal(moved(game, lost, PLAY).hand, lost.hand)


def test_the_last_card_and_a_full_score():
    game, state = begin(0, 1, 3, 4, 2, 5)
    state = moved(game, state, PLAY, PLAY, PLAY + 1, PLAY + 1, PLAY)
    assert state.fireworks.tolist() == [[3, 2]]
    full = moved(game, state, PLAY)
    assert full.score().tolist() == [6]
    assert full.over.all()
    # Until the deck is empty, then one move each.
    game, state = begin(0, 0, 3, 3)
    count = 0
    while not state.over.all():
        legal = game.legal(state)[0]
        hint = COLOUR + int(legal[COLOUR : COLOUR + 2].long().argmax())
        move = DISCARD if legal[DISCARD] else hint
        state = moved(game, state, move)
        count += move == DISCARD
    assert state.score().tolist() == [0]
    assert state.drawn.tolist() == [12]
    assert count in (9, 10)


def test_cards_are_kept_in_random_games():
    game, generator = dtp.SmallHanabi(3, 4), draws(1)
    total = game.copies
    for state, _, after in walked(game, game.deal(200, generator), generator):
        deck = torch.nn.functional.one_hot(after.deck, game.kinds)
        place = torch.arange(after.deck.shape[1])
        undrawn = (deck * (place >= after.drawn[:, None])[..., None]).sum(1)
        held = torch.nn.functional.one_hot(after.hand.flatten(1), game.kinds + 1).sum(1)[:, :-1]
        assert torch.equal(undrawn + held + game.seen_by_all(after), total.expand_as(held))
        law = game.blueprint(state)
        legal = game.legal(state)
        playing = ~state.over
        assert ((law > -math.inf) == legal)[playing].all()
        assert (law.exp().sum(-1) - 1).abs().max() < 1e-12
        assert ((after.hints >= 0) & (after.hints <= game.hints)).all()


def test_the_blueprints_differ_in_quality():
    game, generator = dtp.SmallHanabi(), draws(2)
    state = game.deal(4000, generator)
    scores = [
        dtp.roll_out(game, state, generator, **options).mean().item()
        for options in ({"rollouts": "argmax"}, {}, {"noise": 0.5}, {"noise": 1.0})
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[1] > 0.3
    assert scores[1] - scores[2] > 0.8


# ---------------------------------------------------------------------------------------- beliefs


def by_enumeration(game, history, player):
    """The law of the own hand from all deals of all cards that the player has not seen.

    Each hand is a sequence of cards in the order in which the player drew them; it is weighed by
    the partner's moves, replayed with it.
    """
    first, last = history[0][0], history[-1][2]
    drew = [2 * player, 2 * player + 1]
    for before, move, _ in history:
        if before.turn.item() == player and move.item() < 4 and before.drawn.item() < 12:
            drew.append(before.drawn.item())
    known = last.deck[0].tolist()
    slots = drew[:]
    others = [known[k] for k in range(last.drawn.item()) if k not in slots]
    counts = game.copies.clone()
    for card in others:
        counts[card] -= 1
    weights = torch.zeros(7, 7, dtype=F64)
    for cards in itertools.product(range(6), repeat=len(slots)):
        left, weight = counts.clone(), 1.0
        for card in cards:
            weight *= left[card].item()
            left[card] -= 1
        if weight <= 0:
            continue
        deck = last.deck.clone()
        for slot, card in zip(slots, cards, strict=True):
            deck[0, slot] = card
        state = game.begin(deck)
        for before, move, after in history:
            if state.turn.item() != player:
                weight *= game.blueprint(state)[0, move].exp().item()
            elif move.item() < 4:
                k = move.item() % 2
                if state.hand[0, player, k] != before.hand[0, player, k]:
                    weight = 0.0
            if weight == 0.0:
                break
            state = game._apply(state, move)
            if not torch.equal(state.possible[0, player], after.possible[0, player]):
                weight = 0.0
                break
        if weight > 0:
            weights[tuple(state.hand[0, player].tolist())] += weight
    del first
    return weights / weights.sum()


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_a_belief_is_the_posterior(seed):
    game, generator = dtp.SmallHanabi(), draws(seed)
    state = game.deal(1, generator)
    beliefs = [dtp.Belief(game, state, player) for player in (0, 1)]
    history, drawn = [], 0
    for step in walked(game, state, generator, beliefs):
        history.append(step)
        drawn = step[2].drawn.item()
        for belief in beliefs:
            mine = sum(m.item() < 4 and s.turn.item() == belief.player for s, m, _ in history)
            if mine <= 1:
                wanted = by_enumeration(game, history, belief.player)
                torch.testing.assert_close(belief.weights[0], wanted, rtol=1e-10, atol=1e-12)
        if drawn >= 8:
            break
    assert drawn > 4


def test_beliefs_are_calibrated():
    """The mean weight of the true hand is that of a hand drawn from the belief."""
    game, generator = dtp.SmallHanabi(), draws(3)
    state = game.deal(1500, generator)
    belief = dtp.Belief(game, state, 1)
    truth, drawn = [belief.of_the_truth(state)], [belief.weights.square().sum((-2, -1))]
    for _, _, after in walked(game, state, generator, [belief]):
        playing = ~after.over
        truth.append(belief.of_the_truth(after)[playing])
        drawn.append(belief.weights.square().sum((-2, -1))[playing])
    assert torch.cat(truth).min() > 0
    gap = torch.cat(truth) - torch.cat(drawn)
    assert gap.mean().abs() < 5 * gap.std() / len(gap) ** 0.5
    # Without the partner's moves the belief is another one.
    assert torch.cat(truth).mean() > 0.2


def test_hands_come_from_the_belief():
    game, generator = dtp.SmallHanabi(), draws(4)
    belief = dtp.Belief(game, game.deal(3, generator), 0)
    hands = belief.sample(torch.tensor([2]), 20_000, generator)[0]
    shares = torch.zeros(7, 7, dtype=F64).index_put((hands[:, 0], hands[:, 1]),
                                                    torch.tensor(1 / 20_000, dtype=F64),
                                                    accumulate=True)  # fmt: skip
    assert (shares - belief.weights[2]).abs().max() < 0.012
    assert (shares[belief.weights[2] == 0] == 0).all()


# ----------------------------------------------------------------------------------------- search


def test_values_of_the_last_move_are_exact():
    """One life, one move to go for each: playing the sure card is worth one, a bomb nothing."""
    game, state = begin(0, 1, 3, 4)
    state = moved(game, state, RANK, RANK)  # both know their lowest card
    belief = dtp.Belief(game, begin(0, 1, 3, 4)[1], 0)
    now = begin(0, 1, 3, 4)[1]
    for move in (RANK, RANK):
        after = game.apply(now, torch.tensor([move]))
        belief.update(now, torch.tensor([move]), after)
        now = after
    assert torch.equal(now.hand, state.hand)
    values = dtp.hanabi_action_values(game, now, belief, 400, draws(5), rollouts="argmax")
    assert values.argmax() in (PLAY, COLOUR, COLOUR + 1, RANK, RANK + 1)
    assert values[0, PLAY] > values[0, PLAY + 1] + 0.5
    assert (values[0, ~game.legal(now)[0]] == 0).all()


def test_sampled_decks_hold_what_is_left():
    from mdtheory.nlhf.decision_time_planning.playing import _shuffled

    game, generator = dtp.SmallHanabi(), draws(6)
    for state, *_ in itertools.islice(walked(game, game.deal(300, generator), generator), 9):
        deck = _shuffled(game, state, generator)
        place = torch.arange(deck.shape[1])
        undrawn = place >= state.drawn[:, None]
        assert torch.equal(torch.where(undrawn, -1, deck), torch.where(undrawn, -1, state.deck))
        for cards in (deck, state.deck):
            shown = torch.nn.functional.one_hot(cards, 6) * undrawn[..., None]
            assert shown.sum() == undrawn.sum()
        both = [(torch.nn.functional.one_hot(d, 6) * undrawn[..., None]).sum(1)
                for d in (deck, state.deck)]  # fmt: skip
        assert torch.equal(*both)


def test_search_gains_and_is_the_same_twice():
    game = dtp.SmallHanabi()
    state = game.deal(120, draws(7))
    plain = dtp.play_hanabi(game, state, draws(1), searchers=())
    assert plain.searches == plain.rollouts == 0
    records = [dtp.play_hanabi(game, state, draws(1), samples=10) for _ in range(2)]
    assert torch.equal(records[0].score, records[1].score)
    gain = (records[0].score - plain.score).double()
    assert gain.mean() > 4 * gain.std() / 120**0.5
    assert records[0].rollouts > 10 * records[0].searches
    assert 0 < records[0].changed < 1
    # A step close to 0 is the blueprint itself, drawn with the same numbers.
    none = dtp.play_hanabi(game, state, draws(1), samples=1, step_size=1e-12, play="sample")
    assert 0.2 < none.changed < 0.8
    assert (none.score.double().mean() - plain.score.double().mean()).abs() < 0.6


def test_games_of_one_group_share_their_numbers():
    game, generator = dtp.SmallHanabi(), draws(8)
    state = game.deal(1, generator).take(torch.zeros(40, dtype=torch.int64))
    alike = dtp.roll_out(game, state, generator, groups=torch.zeros(40, dtype=torch.int64))
    apart = dtp.roll_out(game, state, generator)
    assert alike.unique().numel() == 1
    assert apart.unique().numel() > 1
