"""What reflective planning does not take: the message names the argument."""

import pytest
import torch

from mdtheory.rl import reflective_planning as rp
from mdtheory.rl.reflective_planning import laws as lw
from mdtheory.rl.reflective_planning.driving import drive
from tests.rl.reflective_planning_cases import CV, F64, NOTHING, draws, table

LAW = torch.full((4,), 0.25, dtype=F64).log()
SCORE = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=F64)
POINTS, LIKELY = torch.zeros(5, 2), torch.zeros(5)
SCENE = rp.draw_scenes(2, draws(0))
PLAN = torch.zeros(2, 8, 2)
TOKENS = torch.zeros(2, 16, dtype=torch.int64)
LINE = rp.Codebook(0.0, 1.0, 0.5)


def mend(tokens=TOKENS, **options):
    model = rp.MaskedDenoiser(rp.PLANS.size, 8, 8, 1)
    return rp.reflect(model, SCENE, rp.features(SCENE), tokens, CV, **options)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: rp.Codebook(0.0, 1.0, 0.0), ValueError, "step: "),
        (lambda: rp.Codebook(1.0, 0.0, 0.1), ValueError, "high: "),
        (lambda: rp.Codebook("0", 1.0, 0.1), TypeError, "low: "),
        (lambda: rp.Codebook((0.0, 0.0), (1.0, 2.0), (0.5, 0.5)), ValueError, "step: "),
        (lambda: rp.Codebook((0.0, 0.0), (1.0, 2.0), 0.5), ValueError, "step: "),
        (lambda: LINE.encode(torch.tensor([1.3])), ValueError, "values: "),
        (lambda: LINE.encode(torch.tensor([float("nan")])), ValueError, "values: "),
        (lambda: LINE.encode(torch.tensor([1])), TypeError, "values: "),
        (lambda: rp.PLANS.encode(torch.zeros(3, 3)), ValueError, "values: "),
        (lambda: LINE.decode(torch.tensor([3])), ValueError, "codes: "),
        (lambda: LINE.decode(torch.tensor([-1])), ValueError, "codes: "),
        (lambda: LINE.decode(torch.tensor([0.0])), TypeError, "codes: "),
        (lambda: LINE.neighbourhood(-1), ValueError, "delta: "),
        (lambda: rp.MaskedDenoiser(0, 3), ValueError, "tokens: "),
        (lambda: rp.MaskedDenoiser(5, 3, 10, heads=4), ValueError, "heads: "),
        (lambda: rp.decode(table(), torch.zeros(1, 1, 1), 0), ValueError, "steps: "),
        (lambda: rp.decode(table(), torch.zeros(1, 1, 1), 2, -1.0), ValueError, "temperature: "),
        (lambda: rp.decode(table(), torch.zeros(1, 1, 1), 2, 1.0), ValueError, "generator: "),
        (lambda: rp.decode(table(), torch.zeros(1, 1, 1), order="best"), ValueError, "order: "),
        (lambda: rp.train_denoiser(TOKENS, torch.zeros(3, 1, 1), draws(), codes=5), ValueError,
         "condition: "),
        (lambda: rp.non_maximum_suppression(POINTS, LIKELY[:4], 1.0, 3), ValueError,
         "log_probability: "),
        (lambda: rp.non_maximum_suppression(POINTS, LIKELY.double(), 1.0, 3), TypeError,
         "log_probability: "),
        (lambda: rp.non_maximum_suppression(POINTS, LIKELY, -1.0, 3), ValueError, "distance: "),
        (lambda: rp.non_maximum_suppression(POINTS, LIKELY, 1.0, 0), ValueError, "count: "),
        (lambda: rp.planning_score(SCENE, PLAN, "noisy"), ValueError, "agents: "),
        (lambda: rp.planning_score(SCENE, PLAN[..., :1]), ValueError, "waypoints: "),
        (lambda: rp.planning_score(SCENE, torch.zeros(3, 8, 2)), ValueError, "waypoints: "),
        (lambda: rp.planning_score(SCENE, [[0.0]]), TypeError, "waypoints: "),
        (lambda: rp.track(SCENE, PLAN, 0.0), ValueError, "smoothness: "),
        (lambda: rp.track(SCENE, PLAN[..., 0]), ValueError, "waypoints: "),
        (lambda: rp.draw_scenes(0, draws()), ValueError, "count: "),
        (lambda: rp.draw_scenes(1.5, draws()), TypeError, "count: "),
        (lambda: rp.perceived(SCENE, -1.0, draws()), ValueError, "sigma: "),
        (lambda: rp.lattice_expert(SCENE, temperature=0.1), ValueError, "generator: "),
        (lambda: rp.lattice_expert(SCENE, temperature=-1.0), ValueError, "temperature: "),
        (lambda: rp.lattice_expert(SCENE[:, None]), ValueError, "scene: "),
        (lambda: mend(rounds=-1), ValueError, "rounds: "),
        (lambda: mend(radius=-1), ValueError, "radius: "),
        (lambda: mend(radius=1.5), TypeError, "radius: "),
        (lambda: mend(TOKENS[:, :15]), ValueError, "tokens: "),
        (lambda: mend(TOKENS.float()), TypeError, "tokens: "),
        (lambda: rp.exponential_tilt(LAW.exp(), SCORE, 1.0), ValueError, "log_probability: "),
        (lambda: rp.exponential_tilt(LAW, SCORE.float(), 1.0), TypeError, "score: "),
        (lambda: rp.exponential_tilt(LAW, SCORE / 0, 1.0), ValueError, "score: "),
        (lambda: rp.exponential_tilt(LAW, SCORE[:3], 1.0), ValueError, "score: "),
        (lambda: rp.exponential_tilt(LAW, SCORE, -1.0), ValueError, "strength: "),
        (lambda: rp.best_of_law(LAW, SCORE, 0), ValueError, "n: "),
        (lambda: rp.matched_strength(LAW, SCORE, torch.tensor(2.0, dtype=F64)), ValueError,
         "divergence: "),
        (lambda: lw.TableDenoiser(LAW, 3, 2), ValueError, "log_law: "),
        (lambda: lw.mask_weight(5, 4), ValueError, "length: "),
        (lambda: lw.enumerated_loss(table(), torch.zeros(1, 4), NOTHING, 3), TypeError,
         "tokens: "),
        (lambda: lw.decoding_law(table(), 0), ValueError, "steps: "),
        (lambda: lw.decoding_law(table(), 1, "best"), ValueError, "order: "),
        (lambda: drive(lambda s: PLAN, SCENE, 0), ValueError, "replans: "),
        (lambda: drive(lambda s: PLAN, rp.draw_scenes(2, draws(), intersections=True)),
         ValueError, "scene: "),
    ],
)  # fmt: skip
def test_refused(call, error, words):
    with pytest.raises(error, match=f"^{words}"):
        call()


def test_what_is_on_the_edge_is_taken():
    assert LINE.encode(torch.tensor([-0.25, 1.25], dtype=F64)).tolist() == [0, 2]
    assert rp.Codebook(-100.0, 100.0, 0.3).size == 667
    assert rp.Codebook(0, 0.9, 0.3).size == 4
    assert torch.equal(rp.exponential_tilt(LAW, SCORE, 0.0), LAW)
    assert torch.equal(rp.best_of_law(LAW, SCORE, 1), LAW)
    zero = torch.tensor([0.0, -torch.inf, -torch.inf, -torch.inf], dtype=F64)
    assert torch.equal(rp.exponential_tilt(zero, SCORE, 5.0), zero)
    same, used = mend(rounds=0)
    assert torch.equal(same, TOKENS)
    assert not used.any()
