"""Zero-sum games of two players, and magnetic mirror descent.

The chapter 'Games' derives what stands here: matrix games (``matrix``), games in extensive form as
trees of sequences (``tree``, built by ``walk``; ``poker`` and ``openspiel`` have some), how far a
pair of strategies is from an equilibrium (``measures``), the descent (``descent``) with its
constants (``convexity``), a solver that certifies its answer (``solver``), and references by other
means (``references``, with Newton's method in ``newton``).
"""

from mdtheory.nlhf.games.convexity import complexity, guaranteed_step, smoothness
from mdtheory.nlhf.games.descent import inverse_root, magnetic_iterates, magnetic_mirror_descent
from mdtheory.nlhf.games.matrix import MatrixGame
from mdtheory.nlhf.games.measures import divergence, exploitability, nash_conv
from mdtheory.nlhf.games.openspiel import from_openspiel
from mdtheory.nlhf.games.poker import kuhn_poker, leduc_poker
from mdtheory.nlhf.games.references import linear_program, quantal_response
from mdtheory.nlhf.games.solver import solve_matrix_game
from mdtheory.nlhf.games.tree import ExtensiveGame
from mdtheory.nlhf.games.walk import Chance, Decision, Terminal

__all__ = [
    "Chance",
    "Decision",
    "ExtensiveGame",
    "MatrixGame",
    "Terminal",
    "complexity",
    "divergence",
    "exploitability",
    "from_openspiel",
    "guaranteed_step",
    "inverse_root",
    "kuhn_poker",
    "leduc_poker",
    "linear_program",
    "magnetic_iterates",
    "magnetic_mirror_descent",
    "nash_conv",
    "quantal_response",
    "smoothness",
    "solve_matrix_game",
]
