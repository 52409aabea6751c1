"""What imitation does not take: the message names the argument."""

import pytest
import torch

from mdtheory.environments import CartPole, Pendulum
from mdtheory.rl import imitation as im
from mdtheory.rl.imitation import bounds
from tests.rl.imitation_cases import F64, Line, draws, homeward, processes

LAW = torch.full((2, 2), 0.25, dtype=F64)
ONES = torch.ones(2, 2, dtype=F64)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: im.ensemble_weights(0, 0.1), ValueError, "n: "),
        (lambda: im.ensemble_weights(2.0, 0.1), TypeError, "n: "),
        (lambda: im.ensemble_weights(2, 1.1), ValueError, "step: "),
        (lambda: im.ensemble_weights(2, "0.1"), TypeError, "step: "),
        (lambda: im.ensemble_weights(2, float("nan")), ValueError, "step: "),
        (lambda: im.occupancy_divergence(ONES, LAW), ValueError, "d: "),
        (lambda: im.occupancy_divergence(LAW, LAW.float()), TypeError, "e: "),
        (lambda: im.occupancy_divergence(LAW, LAW[:, :1] * 2), ValueError, "e: "),
        (lambda: im.occupancy_divergence([[1.0]], LAW), TypeError, "d: "),
        (lambda: im.occupancy_divergence(LAW[0] * 2, LAW), ValueError, "d: "),
        (lambda: im.frank_wolfe_gap(LAW, ONES, LAW), ValueError, "s: "),
        (lambda: im.frank_wolfe_gap(LAW, LAW, torch.eye(2, dtype=F64) / 2), ValueError, "e: "),
        (lambda: im.policy_of_occupancy(ONES), ValueError, "pairs: "),
        (lambda: im.mirror_occupancies(LAW, LAW, 1.5, 3), ValueError, "step: "),
        (lambda: im.mirror_occupancies(LAW, torch.eye(2, dtype=F64) / 2, 0.5, 3), ValueError,
         "expert: "),
        (lambda: im.mirror_occupancies(LAW, LAW, 0.5, 0), ValueError, "rounds: "),
        (lambda: im.mirror_learner(0, 0.5), ValueError, "steps: "),
        (lambda: im.mirror_learner(1, 0.0), ValueError, "step_size: "),
        (lambda: im.discriminator_loss(LAW, LAW, "hinge"), ValueError, "kind: "),
        (lambda: im.discriminator_loss(LAW, LAW.float()), TypeError, "learner: "),
        (lambda: im.discriminator_loss(LAW, LAW, expert_weight=LAW[:, :1].repeat(1, 3)),
         ValueError, "expert_weight: "),
        (lambda: im.fit_discriminator(torch.eye(2, dtype=F64) / 2, LAW), ValueError, "expert: "),
        (lambda: im.fit_discriminator(LAW, LAW, bound=0.0), ValueError, "bound: "),
        (lambda: bounds.constant_step_bound(1.0, 1.0, 0.0, 3), ValueError, "step: "),
        (lambda: bounds.constant_step_bound(1.0, 1.0, 0.5, 3, 2.0), ValueError, "kappa: "),
        (lambda: bounds.constant_step_bound(1.0, 1.0, 0.5, 3, torch.tensor([0.0])), ValueError,
         "kappa: "),
        (lambda: bounds.log_mean_bias_bound(1.0, 1.0, 3), ValueError, "least: "),
        (lambda: bounds.log_mean_bias_bound(0.5, 1.0, 0), ValueError, "n: "),
        (lambda: bounds.single_sample_bound(1.0, 1.0), ValueError, "discount: "),
        (lambda: bounds.open_loop_bound(1.0, 1.0, -1), ValueError, "rounds: "),
        (lambda: im.scripted_expert(CartPole()), ValueError, "environment: "),
        (lambda: im.demonstrate(CartPole(), homeward, draws(), seeds=1, episodes=1), ValueError,
         "environment: "),
        (lambda: im.demonstrate(Line(), homeward, draws(), seeds=1, episodes=0), ValueError,
         "episodes: "),
        (lambda: im.ImitationSettings(rounds=0), ValueError, "rounds: "),
        (lambda: im.ImitationSettings(bound=0.0), ValueError, "bound: "),
    ],
)  # fmt: skip
def test_refused(call, error, words):
    with pytest.raises(error, match=f"^{words}"):
        call()


@pytest.mark.parametrize(
    ("step", "error"),
    [(1.2, ValueError), ("best", ValueError), ([0.1], ValueError), ([0.1, 2.0], ValueError),
     (lambda t: -1.0, ValueError), (torch.full((7,), 0.1, dtype=F64), ValueError),
     (torch.tensor(0.1), TypeError)],
)  # fmt: skip
def test_steps_that_boosting_does_not_take(step, error):
    mdp, expert, _ = processes(3)
    with pytest.raises(error, match=r"^step: "):
        im.boost_occupancies(mdp, expert, im.best_learner, step, 2)


def test_what_boosting_does_not_take():
    mdp, expert, _ = processes(3)
    with pytest.raises(ValueError, match=r"^expert: "):
        im.boost_occupancies(mdp, torch.nn.functional.one_hot(
            torch.arange(18), 18)[0].double().reshape(6, 3), im.best_learner, 0.1, 2)  # fmt: skip
    with pytest.raises(ValueError, match=r"^rounds: "):
        im.boost_occupancies(mdp, expert, im.best_learner, 0.1, 0)
    with pytest.raises(ValueError, match=r"^start: "):
        im.boost_occupancies(mdp, expert, im.best_learner, 0.1, 2, start=2 * mdp.uniform_policy())
    with pytest.raises(ValueError, match=r"^pairs: "):
        im.initial_law(mdp, LAW)


def test_what_training_does_not_take():
    data = im.demonstrate(Line(), homeward, draws(), seeds=2, episodes=1)
    settings = im.ImitationSettings(rounds=1, updates=2, samples=5)

    def train(environment=None, data=data, seeds=2, **options):
        im.train_ail_boost(
            environment or Line(), data, draws(), seeds=seeds,
            **{"settings": settings, **options},
        )  # fmt: skip

    for words, options in {
        "weighting: ": {"weighting": "heavy"},
        "step: ": {"step": 2.0},
        "kind: ": {"loss": "hinge"},
        "deploy: ": {"deploy": "best"},
        "demonstrations: ": {"seeds": 3},
        "environment: ": {"environment": CartPole()},
        "seeds: ": {"seeds": 0},
    }.items():
        with pytest.raises(ValueError, match=f"^{words}"):
            train(**options)
    with pytest.raises(ValueError, match=r"^weighting: expected 2 entries, one a seed, got 1"):
        train(weighting=["boost"])
    with pytest.raises(ValueError, match=r"^demonstrations: "):
        train(environment=Pendulum())
    with pytest.raises(TypeError, match=r"^demonstrations: "):
        train(data=tuple(data))
    for rival in (im.behaviour_clone, im.value_dice):
        with pytest.raises(ValueError, match=r"^steps: "):
            rival(Line(), data, draws(), seeds=2, steps=0)
    with pytest.raises(ValueError, match=r"^alpha: "):
        im.iq_learn(Line(), data, draws(), seeds=2, alpha=0.0, settings=settings)


def test_the_suite_says_what_to_install(monkeypatch):
    import sys

    from mdtheory.environments import DeepMindEnvironment

    monkeypatch.setitem(sys.modules, "dm_control", None)
    monkeypatch.setitem(sys.modules, "dm_control.suite", None)
    with pytest.raises(ImportError, match="dmc"):
        DeepMindEnvironment("cartpole", "swingup")
