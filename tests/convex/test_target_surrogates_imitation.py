"""Imitation: experts, the steps that count, and each method against a second computation."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Entropy
from mdtheory.convex.target_surrogates import LinearModel, SoftmaxLoss
from mdtheory.convex.target_surrogates.imitation import (
    CARTPOLE,
    IMITATORS,
    PENDULUM,
    Stage,
    collect,
    evaluate,
    fixed_start,
    imitate,
    play,
)
from mdtheory.environments import TimeStep, World


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def short(method="sso", step=1.0, rounds=3, **more):
    options = {"rows": 20, "seeds": 2, "episodes": 2} | more
    return imitate(CARTPOLE, step, rounds, generator(), method=method, **options)


class Expert(LinearModel):
    """The linear feedback of ``balance_pole`` as a policy."""

    def __call__(self, parameters):
        chosen = CARTPOLE.expert(self.features[..., :-1])
        return 100 * torch.nn.functional.one_hot(chosen, 2).to(parameters) + 0 * parameters.sum()


def test_the_expert_of_cartpole_never_falls():
    stage = fixed_start(CARTPOLE, 20, generator(3))
    parameters = torch.zeros(1, 5, 2, dtype=torch.float64)
    assert evaluate(CARTPOLE, Expert, parameters, stage).item() == 500


def test_the_expert_of_the_pendulum_swings_it_up():
    world = PENDULUM.environment.start(20, 1, generator(1))
    observation = world.reset()[:, 0]
    for _ in range(199):
        action = PENDULUM.expert(observation)
        assert action.min() >= 0
        assert action.max() <= 4
        observation = PENDULUM.act(action, world).observation
    assert (observation[:, 0] > 0.95).all()


def test_levels_are_the_torques_of_gymnasium():
    gymnasium = pytest.importorskip("gymnasium")
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=0)
    ours = PENDULUM.environment.start(1, 1, generator())
    ours.reset()
    for action in (0, 1, 3, 4, 2, 0):
        ours.inner = torch.tensor(theirs.state)[None, None]
        seen, cost, *_ = theirs.step([(-2.0, -1.0, 0.0, 1.0, 2.0)[action]])
        step = PENDULUM.act(torch.tensor([action]), ours)
        torch.testing.assert_close(step.observation[0].float(), torch.from_numpy(seen))
        assert step.reward.item() == pytest.approx(cost, rel=1e-5)


class Counter(World):
    """A world whose observation counts steps, with episodes of three steps and one to reset."""

    copies = 2

    def __init__(self):
        self.clock, self.actions = 0, []

    def reset(self):
        self.clock, self.actions = 0, []
        return self.observe()

    def observe(self):
        rows = [[self.clock, env, 0.0, 0.0] for env in range(self.copies)]
        return torch.tensor(rows)[:, None]

    def reward(self):
        return torch.zeros(self.copies, 1)

    def step(self, actions):
        self.actions.append(actions.clone())
        self.clock += 1
        ended = torch.zeros(self.copies, 1, dtype=torch.bool)
        ended[0] = self.clock % 4 == 3
        return TimeStep(self.observe(), self.reward(), ended, torch.zeros_like(ended))


def test_collect_leaves_out_the_steps_that_only_reset():
    world = Counter()
    seen = collect(
        CARTPOLE, LinearModel, torch.zeros(2, 5, 2, dtype=torch.float64), world, 7, generator()
    )
    assert seen.shape == (2, 7, 4)
    assert seen[0, :, 0].tolist() == [0, 1, 2, 4, 5, 6, 8]
    assert seen[1, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert (seen[0, :, 1] == 0).all()
    assert (seen[1, :, 1] == 1).all()


def test_the_expert_acts_as_often_as_it_should():
    class Wide(Counter):
        copies = 400

        def observe(self):
            return torch.ones(400, 1, 4)

    # The policy always takes 0 and the expert 1.
    parameters = torch.zeros(400, 5, 2, dtype=torch.float64)
    parameters[:, -1, 0] = 1e3
    for share in (0.0, 0.25, 1.0):
        world = Wide()
        collect(CARTPOLE, LinearModel, parameters, world, 20, generator(), expert_share=share)
        found = torch.stack(world.actions[:20]).double().mean().item()
        assert found == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 8000))


def test_evaluate_counts_the_first_episode_alone():
    class Paid(Counter):
        def reward(self):
            return torch.tensor([[1.0], [2.0]])

        def step(self, actions):
            step = super().step(actions)
            stopped = torch.tensor([[False], [self.clock == 10]])
            return step._replace(truncated=stopped)

    parameters = torch.zeros(1, 5, 2, dtype=torch.float64)
    world = Paid()
    seen = world.reset()
    stage = Stage(world, world.state(), seen)
    for _ in range(2):  # the same starts each time
        assert evaluate(CARTPOLE, LinearModel, parameters, stage).item() == (3 + 20) / 2


@pytest.mark.parametrize("method", IMITATORS)
@pytest.mark.parametrize("hidden", [0, 3])
def test_every_method_keeps_its_account(method, hidden):
    record = short(method, torch.tensor([0.5, 1.0]), hidden=hidden, every=2, inner_steps=4)
    assert record.interactions.tolist() == [0, 40, 60]
    assert record.returns.shape == (3, 2, 2)
    assert record.losses.shape == (3, 2, 2)
    assert record.losses[0].flatten().tolist() == pytest.approx([math.log(2)] * 4)
    expected = 12 if method == "sso" else 3
    assert record.products.tolist() == [[expected] * 2] * 2
    # The dtype of the step sizes is kept.
    assert record.parameters.dtype == torch.float32
    assert (record.returns >= 1).all()


def test_one_inner_step_is_a_gradient_step():
    ours = short("sso", 0.8, inner_steps=1, inner_step=0.5)
    plain = short("sgd", 0.4)
    torch.testing.assert_close(ours.parameters, plain.parameters)
    other = short("sso", 0.8, inner_steps=2, inner_step=0.5)
    assert not torch.allclose(other.parameters, plain.parameters)


def test_first_steps_of_adam_and_adagrad():
    for method, size in (("adam", None), ("adagrad", 0.3)):
        end = short(method, 0.3, rounds=1).parameters
        plain = short("sgd", 1.0, rounds=1).parameters
        if size is None:
            # Each coordinate moves by the step size, whatever its gradient.
            torch.testing.assert_close(end, 0.3 * plain.sign(), rtol=1e-4, atol=1e-4)
        else:
            length = plain.square().sum((-1, -2), keepdim=True).sqrt()
            torch.testing.assert_close(end, size * plain / length)


def test_many_numbers_of_inner_steps_in_one_program():
    steps = torch.tensor([1.0, 2.0], dtype=torch.float64)
    counts = torch.tensor([1.0, 5.0, math.inf])
    record = short("sso", steps, inner_steps=counts[:, None])
    assert record.returns.shape == (4, 3, 2, 2)
    assert record.products[:, 0, 0].tolist() == [3, 15, 3]


def test_the_entropy_surrogate_at_step_one_is_the_loss_itself():
    more = {"mirror_map": Entropy(), "coordinates": "dual", "inner_step": 0.2}
    ours = short("sso", 1.0, rounds=1, inner_steps=6, **more)
    # Six gradient steps on the loss of the same states, drawn as ``imitate`` draws them.
    source = generator()
    world = CARTPOLE.environment.start(2, 1, source)
    fixed_start(CARTPOLE, 4, source)
    here = torch.zeros(2, 5, 2, dtype=torch.float64)
    seen = collect(CARTPOLE, LinearModel, here, world, 20, source)
    model = LinearModel(torch.cat([seen, torch.ones_like(seen[..., :1])], -1))
    loss = SoftmaxLoss(torch.nn.functional.one_hot(CARTPOLE.expert(seen), 2).double())
    for _ in range(6):
        here = here - 0.2 * model.pull(loss.gradient(model(here)))
    torch.testing.assert_close(ours.parameters, here)


def test_configurations_of_a_seed_begin_alike():
    record = short("sso", torch.tensor([0.5, 0.5, 1.0]), hidden=4, rounds=1, inner_steps=3)
    assert torch.equal(record.returns[0, 0], record.returns[0, 2])
    drawn = record.parameters[..., : 5 * 4]  # into the hidden layer, still near the draw
    assert (drawn[0] - drawn[2]).abs().max() < 0.5 < (drawn[0, 0] - drawn[0, 1]).abs().max()


def test_the_expert_is_judged_on_the_starts_of_the_evaluations():
    assert short().expert.tolist() == [500, 500]
    record = imitate(PENDULUM, 1.0, 1, generator(), rows=5, seeds=3, episodes=2)
    assert (record.expert > -500).all()
    stage = fixed_start(PENDULUM, 6, generator())
    by_hand = play(PENDULUM, PENDULUM.expert, stage, torch.zeros(3, 2)).mean(-1)
    torch.testing.assert_close(record.expert, by_hand.double(), rtol=1e-4, atol=1e-4)


def test_the_same_generator_gives_the_same_run():
    first, second = short(), short()
    assert torch.equal(first.parameters, second.parameters)
    assert torch.equal(first.returns, second.returns)


def test_target_steps_learn_to_balance():
    record = short("sso", 1.0, rounds=4, rows=200, seeds=5, inner_steps=100, episodes=4)
    assert record.returns[0].max() < 20
    assert record.returns[-1].quantile(0.5) > 100


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "sarsa"}, "method"),
        ({"step": -1.0}, "step_size"),
        ({"rounds": 0}, "rounds"),
        ({"rows": 0}, "rows"),
        ({"seeds": 0}, "seeds"),
        ({"episodes": 0}, "episodes"),
        ({"every": 0}, "every"),
        ({"hidden": -1}, "hidden"),
        ({"expert_share": 1.5}, "expert_share"),
        ({"inner_steps": 0}, "inner_steps"),
        ({"hidden": 2, "inner_steps": math.inf}, "inner_steps"),
    ],
)
def test_refusals_name_the_argument(options, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        short(**options)
