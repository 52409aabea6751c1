"""Games that are left and taken up again: the book's worlds, gymnasium's, and Atari's."""

import pickle

import pytest
import torch

from mdtheory.environments import CartPole, Pendulum
from mdtheory.environments.simulators import WorldSimulator, play, require_simulator
from mdtheory.rl import exploration as ex


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("environment", [CartPole(), "CartPole-v1"], ids=["tensor", "gymnasium"])
def test_what_is_done_again_happens_again(environment):
    game = WorldSimulator(environment, gen(1))
    plan = torch.randint(2, (40,), generator=gen(2)).tolist()
    game.reset()
    for action in plan[:5]:
        game.step(action)
    kept = game.state()
    first = [(game.step(a), game.view().tolist()) for a in plan[5:]]
    for _ in range(2):
        game.restore(kept)
        again = [(game.step(a), game.view().tolist()) for a in plan[5:]]
        assert again == first
    game.reset()
    begin = game.view().tolist()
    game.step(1)
    game.reset()
    assert game.view().tolist() == begin
    game.world.close()


def test_time_limits_are_part_of_the_state():
    """A pole is kept up until the limit, from a state 30 steps before it, twice."""
    game = WorldSimulator(CartPole(), gen(1))
    game.world.age += 470
    kept = game.state()
    for _ in range(2):
        game.restore(kept)
        steps, over = 0, False
        while not over:
            angle, turn = game.view()[2:].tolist()
            _, over = game.step(int(angle + 0.3 * turn > 0))
            steps += 1
        assert steps == 30


def test_exploring_a_world_of_the_book():
    """Go-Explore on CartPole: cells are coarse angles and places; every way leads to its cell."""
    game = WorldSimulator(CartPole(), gen(1))

    def cell(seen):
        return tuple((seen * 4).round().int().tolist())

    archive = ex.go_explore(game, cell, 300, gen(2), explore=20, hold=2.0, batch=4).archive
    assert len(archive) > 10
    for i, node in enumerate(archive.nodes):
        _, over = play(game, archive.path(node))
        name = archive.cells[i]
        assert over == (name == ex.DONE)
        assert over or cell(game.view()) == name


def test_what_is_no_game():
    with pytest.raises(ValueError, match="environment"):
        WorldSimulator(Pendulum(), gen(1))
    with pytest.raises(TypeError, match="environment"):
        require_simulator("environment", CartPole())
    lock = ex.CombinationLock(2, 2)
    with pytest.raises(ValueError, match="actions"):
        play(lock, [5])
    way = lock.combination.tolist()
    assert play(lock, way) == (1.0, True)
    with pytest.raises(ValueError, match="after the end"):
        play(lock, [*way, 0])


# Atari, where it is installed.


@pytest.fixture(scope="module")
def montezuma():
    pytest.importorskip("ale_py")
    from mdtheory.environments.atari import Atari

    return Atari("montezuma_revenge", death=55)


def test_atari_goes_back(montezuma):
    montezuma.reset()
    plan = ex.held_actions(1, 200, montezuma.actions, 20.0, gen(1))[0].tolist()
    for action in plan[:30]:
        montezuma.step(action)
    kept = montezuma.state()

    def rest():
        found = []
        for action in plan[30:]:
            found.append((montezuma.step(action), montezuma.memory().tobytes()))
            if found[-1][0][1]:
                break
        return found, montezuma.screen().tobytes()

    first = rest()
    montezuma.restore(kept)
    assert rest() == first
    montezuma.restore(kept)
    copy = pickle.loads(pickle.dumps(montezuma))
    assert copy.memory().tobytes() == montezuma.memory().tobytes()
    copy.step(0)
    assert copy.colors().shape == (210, 160, 3)


def test_atari_archive_leads_where_it_says(montezuma):
    def cell(game):
        return ex.downscale(game.screen()).numpy().tobytes()

    archive = ex.go_explore(montezuma, cell, 600, gen(2), batch=3).archive
    for i, node in enumerate(archive.nodes):
        _, over = play(montezuma, archive.path(node))
        assert over if archive.cells[i] == ex.DONE else cell(montezuma) == archive.cells[i]


def test_atari_has_no_picture_that_was_not_drawn(montezuma):
    montezuma.reset()
    begin = montezuma.screen().tobytes()
    montezuma.step(3)
    kept = montezuma.state()
    for _ in range(20):
        montezuma.step(3)
    montezuma.restore(kept)
    with pytest.raises(RuntimeError, match="screen"):
        montezuma.screen()
    montezuma.reset()
    assert montezuma.screen().tobytes() == begin


def test_atari_refuses(montezuma):
    from mdtheory.environments.atari import Atari

    with pytest.raises(ValueError, match="game"):
        Atari("no_such_game")
    with pytest.raises(ValueError, match="skip"):
        Atari("pitfall", skip=0)
