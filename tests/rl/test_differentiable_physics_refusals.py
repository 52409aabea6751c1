"""What imitation through physics does not take: the message names the argument."""

import pytest
import torch

from mdtheory.environments import CartPole, Pendulum, Puck
from mdtheory.rl import differentiable_physics as dp
from tests.rl.physics_cases import F64, Line, draws

STATES = torch.zeros(2, 2, dtype=F64)
PATH = torch.zeros(3, 2, dtype=F64)
WORLD = Pendulum(F64)
LINE = Line()
PARTS = dp.Linearisation(torch.zeros(3, 2, 2, dtype=F64), torch.zeros(3, 2, 1, dtype=F64))
SHOWN = dp.demonstrate(LINE)
SEEDED = {"seeds": 2, "iterations": 1, "copies": 2, "hidden": (4,), "warm_up": 0}


def act(seen):
    return seen[..., :1]


def rolled(**options):
    return dp.rollout(WORLD, act, options.pop("state", STATES), options.pop("steps", 3), **options)


def ild(demonstration=SHOWN, **options):
    return dp.train_ild(LINE, demonstration, **{**SEEDED, **options})


def ratio(**options):
    return dp.train_likelihood_ratio(LINE, SHOWN, **{**SEEDED, **options})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: rolled(state=[0.0, 0.0]), TypeError, "state: "),
        (lambda: rolled(state=torch.zeros(2, 3, dtype=F64)), ValueError, "state: "),
        (lambda: rolled(steps=0), ValueError, "steps: "),
        (lambda: rolled(truncation=0), ValueError, "truncation: "),
        (lambda: rolled(truncation=2.5), TypeError, "truncation: "),
        (lambda: rolled(truncation=torch.tensor([1.0, 2.0])), TypeError, "truncation: "),
        (lambda: rolled(truncation=torch.tensor([1, 2, 3])), ValueError, "truncation: "),
        (lambda: rolled(truncation=torch.tensor([-1, 2])), ValueError, "truncation: "),
        (lambda: rolled(step_clip=0.0), ValueError, "step_clip: "),
        (lambda: rolled(step_clip=torch.ones(3, dtype=F64)), ValueError, "step_clip: "),
        (lambda: rolled(noise=-1.0, generator=draws()), ValueError, "noise: "),
        (lambda: rolled(noise=1.0), ValueError, "generator: "),
        (lambda: rolled(parameters={"weight": 1.0}), ValueError, "parameters: "),
        (lambda: rolled(parameters={"mass": 0.0}), ValueError, r"parameters\['mass'\]: "),
        (lambda: rolled(parameters={"gravity": -1.0}), ValueError, r"parameters\['gravity'\]: "),
        (lambda: rolled(parameters={"mass": torch.ones(5, dtype=F64)}), ValueError,
         r"parameters\['mass'\]: "),
        (lambda: WORLD.reset((2,), draws(), -0.1), ValueError, "spread: "),
        (lambda: Puck("elastic"), ValueError, "contact: "),
        (lambda: dp.clip_cotangent(STATES, -1.0), ValueError, "limit: "),
        (lambda: dp.clip_cotangent([1.0], 1.0), TypeError, "value: "),
        (lambda: dp.chamfer_loss(PATH, PATH.float()), TypeError, "demonstration: "),
        (lambda: dp.chamfer_loss(PATH, PATH[:, :1]), ValueError, "demonstration: "),
        (lambda: dp.chamfer_loss(PATH[0], PATH), ValueError, "states: "),
        (lambda: dp.chamfer_loss(PATH[:0], PATH), ValueError, "states: "),
        (lambda: dp.chamfer_loss(PATH, PATH, -1.0), ValueError, "alpha: "),
        (lambda: dp.chamfer_loss(PATH, PATH, float("nan")), ValueError, "alpha: "),
        (lambda: dp.chamfer_terms([[0.0]], PATH), TypeError, "states: "),
        (lambda: dp.assign(PATH, PATH[:, :1]), ValueError, "demonstration: "),
        (lambda: dp.chamfer_surrogate(PATH, PATH, dp.assign(PATH, PATH), -1.0), ValueError,
         "alpha: "),
        (lambda: dp.state_matching_loss(PATH, PATH[:2]), ValueError, "demonstration: "),
        (lambda: dp.linearise(WORLD, act, [1.0], STATES), TypeError, "parameters: "),
        (lambda: dp.linearise(WORLD, act, PATH[0], PATH[:, :1]), ValueError, "states: "),
        (lambda: dp.upright_matrix(0.0, 0.1), ValueError, "rate: "),
        (lambda: dp.upright_matrix(1.0, 0.1, "implicit"), ValueError, "scheme: "),
        (lambda: dp.upright_growth(1.0, -0.1), ValueError, "step: "),
        (lambda: dp.kept_steps(3, 0), ValueError, "every: "),
        (lambda: dp.truncation_bound(0.0, 1.0, PATH[0], 2), ValueError, "rho: "),
        (lambda: dp.likelihood_ratio_gradient(PATH, PATH[:2], PATH[:, 0], 1.0), ValueError,
         "drawn: "),
        (lambda: dp.likelihood_ratio_gradient(PATH, PATH, PATH[:2, 0], 1.0), ValueError, "paid: "),
        (lambda: dp.likelihood_ratio_gradient(PATH, PATH, PATH[:, 0], 0.0), ValueError,
         "deviation: "),
        (lambda: dp.adjoint_gradient(PARTS, PATH.new_zeros(6, 2)), ValueError, "slopes: "),
        (lambda: dp.adjoint_gradient(PARTS, PATH.new_zeros(2, 2)), ValueError, "slopes: "),
        (lambda: dp.adjoint_gradient(PARTS, PATH.new_zeros(4, 3)), ValueError, "slopes: "),
        (lambda: dp.truncation_bound(0.5, -1.0, PATH[0], 2), ValueError, "influence: "),
        (lambda: dp.likelihood_ratio_variance(PATH[0], 0.0, 0.0), ValueError, "deviation: "),
        (lambda: dp.jump_slope(PATH, 1.0, 1.0, 0.0, 0.0), ValueError, "deviation: "),
        (lambda: dp.bounce(PATH, "flip"), ValueError, "height: "),
        (lambda: dp.bounce(PATH + 1, "stick"), ValueError, "collision: "),
        (lambda: dp.bounce(PATH + 1, "soft", width=0.0), ValueError, "width: "),
        (lambda: dp.demonstrate(WORLD, PATH[:, :1]), ValueError, "state: "),
        (lambda: dp.demonstrate(WORLD, steps=0), ValueError, "steps: "),
        (lambda: dp.behaviour_cloning(LINE, SHOWN, draws(), seeds=0), ValueError, "seeds: "),
        (lambda: dp.behaviour_cloning(LINE, SHOWN.states, draws(), seeds=1), ValueError,
         "demonstration: "),
        (lambda: ild(dp.demonstrate(WORLD)), ValueError, "demonstration: "),
        (lambda: ild(SHOWN.states.double()), TypeError, "demonstration: "),
        (lambda: ild([1.0]), TypeError, "demonstration: "),
        (lambda: ild(loss="hinge"), ValueError, "loss: "),
        (lambda: ild(loss=["chamfer"]), ValueError, "loss: "),
        (lambda: ild(loss=3), TypeError, "loss: "),
        (lambda: ild(iterations=-1), ValueError, "iterations: "),
        (lambda: ild(copies=0), ValueError, "copies: "),
        (lambda: ild(alpha=-1.0), ValueError, "alpha: "),
        (lambda: ild(alpha=5.0, loss=dp.chamfer_loss), ValueError, "alpha: "),
        (lambda: ild(truncation=torch.tensor([5, 5, 5])), ValueError, "truncation: "),
        (lambda: ild(gradient_clip=0.0), ValueError, "gradient_clip: "),
        (lambda: ild(learning_rate=0.0), ValueError, "learning_rate: "),
        (lambda: ild(seeds=3, policy=dp.behaviour_cloning(LINE, SHOWN, draws(), seeds=1, steps=0)),
         ValueError, "policy: "),
        (lambda: ratio(deviation=0.0), ValueError, "deviation: "),
        (lambda: ratio(copies=1), ValueError, "copies: "),
        (lambda: dp.train_ild(CartPole(), SHOWN, **SEEDED), TypeError, "environment: "),
        (lambda: dp.rollout(CartPole(), act, STATES, 3), TypeError, "environment: "),
    ],
)  # fmt: skip
def test_refused(call, error, words):
    with pytest.raises(error, match="^" + words):
        call()
