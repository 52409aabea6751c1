"""The maze, table games as worlds and as processes, cells of pictures, and what does not return."""

import math

import pytest
import torch

from mdtheory.agents.policies import Policy
from mdtheory.rl import exploration as ex
from mdtheory.rl.exploration.maze import DEADLY, FLOOR, TREASURE, WALL
from mdtheory.rl.exploration.tables import TableWorld
from mdtheory.rl.policy_mirror_descent import bellman_error, evaluate, value_iteration

F64 = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def maze():
    return ex.KeyDoorMaze(3, 5, 3, 0.18, gen(0))


# The maze.


@pytest.mark.parametrize(("rooms", "side", "keys", "deadly", "seed"),
                         [(2, 3, 0, 0.0, 1), (2, 4, 2, 0.2, 2), (3, 5, 3, 0.18, 3),
                          (4, 3, 5, 0.1, 4)])  # fmt: skip
def test_mazes_are_what_they_should_be(rooms, side, keys, deadly, seed):
    maze = ex.KeyDoorMaze(rooms, side, keys, deadly, gen(seed))
    again = ex.KeyDoorMaze(rooms, side, keys, deadly, gen(seed))
    assert torch.equal(maze.next, again.next)
    assert torch.equal(maze.floor, again.floor)
    assert len(maze.keys) == len(maze.doors) == keys
    edge = torch.cat([maze.floor[0], maze.floor[-1], maze.floor[:, 0], maze.floor[:, -1]])
    assert (edge == WALL).all()
    for place in (maze.begin, maze.treasure, *maze.keys, *maze.doors):
        assert maze.floor[place] == FLOOR
    # Nobody stands on walls, on deadly tiles, on the treasure, or in a door without its key.
    standing = maze.floor[maze.places[:, 0], maze.places[:, 1]]
    assert (standing == FLOOR).all()
    for (y, x), number in maze.doors.items():
        inside = (maze.places == torch.tensor([y, x])).all(1)
        assert (maze.held[inside] >> number & 1 == 1).all()
    assert maze.reward.max() == TREASURE
    assert maze.end[maze.reward == TREASURE].all()
    codes = (maze.places[:, 0] * 1000 + maze.places[:, 1]) * 64 + maze.held
    assert len(codes.unique()) == maze.states


def test_rules_of_the_maze(maze):
    """Every move from every state against the rules, said a second time."""
    number = {(*p, h): s for s, (p, h) in enumerate(
        zip(maze.places.tolist(), maze.held.tolist(), strict=True))
        for p in [tuple(p)]}  # fmt: skip
    for (y, x, held), state in number.items():
        for action, (dy, dx) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
            place = (y + dy, x + dx)
            maze.restore(state)
            reward, over = maze.step(action)
            kind = maze.floor[place].item()
            if kind == WALL or (place in maze.doors and not held >> maze.doors[place] & 1):
                assert (reward, over, maze.state()) == (0.0, False, state)
            elif kind == DEADLY:
                assert (reward, over) == (0.0, True)
            elif place == maze.treasure:
                assert (reward, over) == (10.0, True)
            else:
                key = maze.keys.get(place)
                fresh = key is not None and not held >> key & 1
                after = held | (1 << key if fresh else 0)
                assert (reward, over) == (float(fresh), False)
                assert maze.state() == number[(*place, after)]


def test_pictures_show_the_state(maze):
    image = maze.pixels(torch.arange(maze.states))
    assert image.dtype == torch.uint8
    assert image.shape[1:] == (64, 56)
    assert torch.equal(image[5], maze.pixels(5))
    # One tile of 8 by 8 is the player; no two states look alike.
    assert ((image == 255).flatten(1).sum(1) == 64).all()
    assert len({row.numpy().tobytes() for row in image}) == maze.states
    assert len({maze.pixel_cell(s) for s in range(maze.states)}) == maze.states
    domain = {maze.domain_cell(s) for s in range(maze.states)}
    assert maze.states / 4 < len(domain) < maze.states / 2
    rooms = {maze.room(s) for s in range(maze.states)}
    assert rooms == {(r, c) for r in range(3) for c in range(3)}


def test_exact_optimum(maze):
    """Certified by the Bellman error; and the deterministic one is a shortest way's."""
    mdp = maze.sticky(0.25)
    solution = value_iteration(mdp, 1e-10)
    assert bellman_error(mdp, solution.value).max() < 1e-9
    still = value_iteration(maze.sticky(0.0), 1e-10).value
    plain = value_iteration(maze.mdp(), 1e-10).value
    assert still[0].item() == pytest.approx(plain[0].item(), rel=1e-9)
    assert solution.value[0] < plain[0]


def test_sticky_process_by_hand():
    """A corridor of one step: right opens, left dies; the first action before is 0."""
    game = ex.TableGame(torch.tensor([[0, 0]]), torch.tensor([[0.0, 1.0]]),
                        torch.tensor([[True, True]]))  # fmt: skip
    mdp = game.sticky(0.25, 0.9)
    assert mdp.states == 3
    assert mdp.reward.tolist() == [[0.0, 0.75], [0.25, 1.0], [0.0, 0.0]]
    assert mdp.transition.to_dense()[:, 2].tolist() == [1.0] * 6
    lock = ex.CombinationLock(2, 2, gen(1))
    a, b = lock.combination.tolist()
    rows = lock.sticky(0.25, 0.9).transition.to_dense().reshape(5, 2, 5)
    # From the start after action 0, wanting the right action.
    chance = 1.0 if a == 0 else 0.75
    assert rows[0, a, 2 + a].item() == pytest.approx(chance)
    value, _ = evaluate(lock.sticky(0.25, 0.9), torch.eye(2, dtype=F64)[[a, a, b, b, 0]])
    second = 1.0 if a == b else 0.75
    assert value[0].item() == pytest.approx(0.9 * chance * second)


def test_a_world_of_the_game_is_the_game(maze):
    world = maze.start(2, 3, gen(1))
    first = world.reset()
    assert first.shape == (2, 3, maze.observed)
    states = torch.zeros(2, 3, dtype=torch.int64)
    over, generator = torch.zeros(2, 3, dtype=torch.bool), gen(2)
    for _ in range(60):
        action = torch.randint(4, (2, 3), generator=generator)
        found = world.step(action)
        reward = torch.where(over, 0.0, maze.reward[states, action].float())
        ended = maze.end[states, action] & ~over
        assert torch.equal(found.reward, reward)
        assert torch.equal(found.terminated, ended)
        states = torch.where(over, 0, maze.next[states, action])
        shown = torch.where(over, 0, action)
        live = ~ended
        wanted = torch.cat([maze.features[states], torch.eye(4)[shown]], -1)
        assert torch.equal(found.observation[live], wanted[live])
        over = ended


def test_sticky_worlds_follow_the_process():
    """Mean reward of wanting the right action twice, by the world and by the process."""
    lock = ex.CombinationLock(2, 3, torch.Generator().manual_seed(4))
    a, b = lock.combination.tolist()
    world = TableWorld(lock, 1, 20_000, gen(3), sticky=0.3)
    world.reset()
    world.step(torch.full((1, 20_000), a))
    over = world.over.clone()
    reward = world.step(torch.full((1, 20_000), b)).reward
    exact = (1.0 if a == 0 else 0.7) * (1.0 if a == b else 0.7)
    mean = torch.where(over, 0.0, reward).mean().item()
    assert abs(mean - exact) < 4 * (exact * (1 - exact) / 20_000) ** 0.5 + 1e-9


def test_policies_as_tables(maze):
    policy = Policy(maze, 2, (8,), gen(1))
    table = ex.tabulate(policy, maze)
    assert table.shape == (2, maze.states * 4 + 1, 4)
    seen = torch.cat([maze.features[7], torch.eye(4)[2]])
    with torch.no_grad():
        law = policy.law(seen.expand(2, 1, -1)).logits.softmax(-1)[:, 0].double()
    assert torch.allclose(table[:, 7 * 4 + 2], law, atol=1e-6)
    assert (table[:, -1] == 0.25).all()
    world = maze.start(2, 1, gen(1))
    assert torch.equal(world.reset()[0, 0], torch.cat([maze.features[0], torch.eye(4)[0]]))


# Cells.


def naive(image, width, height, depth):
    """Area means pixel by pixel, in fractions."""
    from fractions import Fraction

    rows, columns = len(image), len(image[0])
    cells = []
    for i in range(height):
        line = []
        for j in range(width):
            total = Fraction(0)
            for y in range(rows):
                tall = min(Fraction(y + 1), Fraction((i + 1) * rows, height)) - max(
                    Fraction(y), Fraction(i * rows, height)
                )
                for x in range(columns):
                    wide = min(Fraction(x + 1), Fraction((j + 1) * columns, width)) - max(
                        Fraction(x), Fraction(j * columns, width)
                    )
                    if tall > 0 and wide > 0:
                        total += tall * wide * image[y][x]
            mean = total / (Fraction(rows, height) * Fraction(columns, width))
            line.append(math.floor(mean * depth / 255))
        cells.append(line)
    return cells


@pytest.mark.parametrize(
    ("rows", "columns", "size"),
    [(9, 14, (5, 4, 8)), (6, 6, (3, 2, 255)), (3, 4, (7, 5, 2)), (5, 5, (5, 5, 1))],
)
def test_downscale_is_exact(rows, columns, size):
    image = torch.randint(256, (3, rows, columns), generator=gen(rows), dtype=torch.uint8)
    found = ex.downscale(image, *size)
    for one, small in zip(image.tolist(), found.tolist(), strict=True):
        assert small == naive(one, *size)


@pytest.mark.parametrize("grey", [0, 1, 31, 32, 127, 128, 254, 255])
def test_a_constant_picture_is_a_constant_cell(grey):
    image = torch.full((210, 160), grey, dtype=torch.uint8)
    assert (ex.downscale(image) == grey * 8 // 255).all()
    assert torch.equal(ex.downscale(image.numpy()), ex.downscale(image.long()))


def test_split_score():
    assert ex.split_score(["a"] * 10) == 0.0
    # 8 pictures, one cell in 8 wished for: n = 1 is what is wished for, but splits nothing.
    assert ex.split_score([0, 1, 2, 3], 1.0) == pytest.approx(1.0)
    even = ex.split_score([k % 4 for k in range(32)], 0.125)
    assert even == pytest.approx(1.0)
    assert ex.split_score([0] * 29 + [1, 2, 3], 0.125) < even
    assert ex.split_score(list(range(32)), 0.125) == pytest.approx(1 / (1 + 28 / 4) ** 0.5)


def test_a_cell_size_is_found(maze):
    images = maze.pixels(torch.randint(maze.states, (60,), generator=gen(1)))
    first = ex.CellSize(1, 1, 2)
    score = ex.split_score([c.numpy().tobytes() for c in ex.downscale(images, *first)])
    size, best = ex.choose_cell_size(images, gen(2), tries=40, start=first)
    assert best > score
    found = ex.split_score([c.numpy().tobytes() for c in ex.downscale(images, *size)])
    assert found == best
    assert (size, best) == ex.choose_cell_size(images, gen(2), tries=40, start=first)


# What does not return.


def test_count_bonus_opens_a_short_lock_and_a_maze():
    lock = ex.CombinationLock(6, 3, gen(1))
    with_bonus = ex.count_bonus(lock, int, 2000, gen(2), bonus=1.0, rate=0.5)
    assert with_bonus.curve[-1].best == 1.0
    assert with_bonus.curve[-1].simulated == 2000
    # With a first value of 0 it stays with what it tries first, bonus or not.
    stuck = ex.count_bonus(lock, int, 2000, gen(2), bonus=1.0, rate=0.5, optimism=0.0)
    assert stuck.curve[-1].best == 0.0
    small = ex.KeyDoorMaze(2, 3, 1, 0.1, gen(2))
    play = ex.count_bonus(small, int, 20_000, gen(2), bonus=1.0, rate=1.0)
    assert play.curve[-1].best == 11.0
    assert set(play.cells) <= set(range(small.states))


def test_bonus_by_hand():
    """One state, two actions that end the game: values are means of 1 / sqrt(1), 1 / sqrt(2)."""
    game = ex.TableGame(torch.tensor([[0, 0]]), torch.tensor([[0.0, 0.0]]),
                        torch.tensor([[True, True]]))  # fmt: skip
    play = ex.count_bonus(game, int, 9, gen(1), bonus=1.0, rate=1.0)
    assert len(play.curve) == 10
    patient = ex.count_bonus(game, int, 9, gen(1), bonus=1.0, rate=1.0, patience=4, sign=True)
    assert patient.curve[-1].simulated == 9


def test_random_play_is_reproducible(maze):
    one, two = (ex.random_play(maze, maze.pixel_cell, 3000, gen(4), hold=4.0, limit=50)
                for _ in range(2))  # fmt: skip
    assert one == two
    assert one.curve[-1].simulated == 3000
    assert 1 < one.curve[-1].cells < 100
