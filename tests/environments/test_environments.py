"""Worlds: what is kept and restored, and what a world shares with whom."""

import pytest
import torch

from mdtheory.environments import CartPole, CartPoleSwingup, GymnasiumEnvironment, Pendulum

ENVIRONMENTS = {
    "CartPole": CartPole(),
    "CartPoleSwingup": CartPoleSwingup(torch.float64),
    "Pendulum": Pendulum(torch.float64),
    "gymnasium's CartPole-v1": GymnasiumEnvironment("CartPole-v1"),
    "gymnasium's Pendulum-v1": GymnasiumEnvironment("Pendulum-v1"),
}


def actions(environment, steps, seed=3):
    generator = torch.Generator().manual_seed(seed)
    if environment.discrete:
        return torch.randint(environment.actions, (steps, 2, 3), generator=generator)
    return 2 * torch.rand(steps, 2, 3, environment.actions, generator=generator) - 1


def play(world, orders):
    steps = [world.step(action) for action in orders]
    return [torch.stack(parts) for parts in zip(*steps, strict=True)]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_world_goes_on_exactly_from_a_snapshot(name):
    """Through the ends of episodes too: clocks, marks and the draws of new episodes agree."""
    environment = ENVIRONMENTS[name]
    generator = torch.Generator().manual_seed(0)
    world = environment.start(2, 3, generator)
    world.reset()
    play(world, actions(environment, 190, seed=1))
    kept, draws = world.state(), generator.get_state()
    orders = actions(environment, 60)
    once = play(world, orders)
    assert once[2].any() or once[3].any()
    for _ in range(2):  # a snapshot serves any number of times
        world.restore(kept)
        generator.set_state(draws)
        for first, second in zip(once, play(world, orders), strict=True):
            assert torch.equal(first, second)
    # Another world of the same kind can take it over.
    other = environment.start(2, 3, generator)
    other.reset()
    other.restore(kept)
    generator.set_state(draws)
    for first, second in zip(once, play(other, orders), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_snapshot_owns_its_memory(name):
    environment = ENVIRONMENTS[name]
    world = environment.start(2, 3, torch.Generator().manual_seed(0))
    world.reset()
    kept = world.state()
    orders = actions(environment, 4)
    expected = play(world, orders)[0]
    world.restore(kept)
    for value in kept.values():
        if isinstance(value, torch.Tensor):
            value.fill_(1)
    assert torch.equal(play(world, orders)[0], expected)


def test_what_is_left_out_of_a_snapshot_shows():
    """The mutant: without the clock the time limit comes later."""
    environment = Pendulum()
    world = environment.start(1, 1, torch.Generator().manual_seed(0))
    world.reset()
    for order in torch.zeros(150, 1, 1, 1):
        world.step(order)
    kept = world.state()
    late = {**kept, "age": torch.zeros_like(kept["age"])}
    cut = {}
    for label, state in (("whole", kept), ("no clock", late)):
        world.restore(state)
        steps = [world.step(order) for order in torch.zeros(200, 1, 1, 1)]
        cut[label] = next(k for k, step in enumerate(steps, 1) if step.truncated.any())
    assert cut == {"whole": 50, "no clock": 200}


def test_a_snapshot_of_another_world_is_refused():
    generator = torch.Generator().manual_seed(0)
    world = CartPole().start(2, 3, generator)
    for other in (CartPole().start(3, 3, generator), Pendulum().start(2, 3, generator)):
        with pytest.raises(ValueError, match=r"^state: expected"):
            world.restore(other.state())
    with pytest.raises(ValueError, match=r"^state: expected"):
        world.restore({})
