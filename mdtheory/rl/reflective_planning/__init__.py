"""Reflective planning: masked diffusion over plans, goals, scores, reflection, and the tilt.

The chapter 'Reflective planning' derives what stands here: codes (``codebook``, ``plans``), masked
diffusion (``diffusion``) and its laws on spaces that can be enumerated (``laws``), goal proposals
(``goals``), reflection (``reflection``), the exponential tilt and best-of-n (``tilting``). Its
world, minidrive, has roads (``roads``), scenes (``scenes``), a tracker (``tracking``), scores
(``scoring``), an expert (``lattice``), pictures (``pictures``) and a closed loop (``driving``).
"""

from mdtheory.rl.reflective_planning.codebook import Codebook
from mdtheory.rl.reflective_planning.diffusion import (
    MaskedDenoiser,
    decode,
    inpaint,
    masked_loss,
    train_denoiser,
)
from mdtheory.rl.reflective_planning.goals import (
    best_plan,
    goal_proposals,
    non_maximum_suppression,
    plan_with_goals,
)
from mdtheory.rl.reflective_planning.lattice import Shown, lattice_expert, lattice_plans
from mdtheory.rl.reflective_planning.plans import PLANS, tokens_of, waypoints_of
from mdtheory.rl.reflective_planning.reflection import Round, reflect, reflection_rounds
from mdtheory.rl.reflective_planning.roads import Road, heading, to_plane, to_road
from mdtheory.rl.reflective_planning.scenes import Scenes, draw_scenes, features, perceived
from mdtheory.rl.reflective_planning.scoring import Scores, pdms, planning_score
from mdtheory.rl.reflective_planning.tilting import (
    best_of_law,
    exponential_tilt,
    matched_strength,
)
from mdtheory.rl.reflective_planning.tracking import track, tracking_matrices

__all__ = [
    "PLANS",
    "Codebook",
    "MaskedDenoiser",
    "Road",
    "Round",
    "Scenes",
    "Scores",
    "Shown",
    "best_of_law",
    "best_plan",
    "decode",
    "draw_scenes",
    "exponential_tilt",
    "features",
    "goal_proposals",
    "heading",
    "inpaint",
    "lattice_expert",
    "lattice_plans",
    "masked_loss",
    "matched_strength",
    "non_maximum_suppression",
    "pdms",
    "perceived",
    "plan_with_goals",
    "planning_score",
    "reflect",
    "reflection_rounds",
    "to_plane",
    "to_road",
    "tokens_of",
    "track",
    "tracking_matrices",
    "train_denoiser",
    "waypoints_of",
]
