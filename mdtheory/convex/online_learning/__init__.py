"""Online learning: the protocol, its learners and their regret.

The chapter 'Online learning' derives what stands here: the learners that are calls of the one
update (``learners``), all rounds at once for oblivious losses (``oblivious``), the environments
and the game (``environments``, ``protocol``), learners that learn their geometry (``adaptive``),
portfolios (``portfolios``) and every bound of the chapter (``bounds``).
"""

from mdtheory.convex.online_learning import bounds
from mdtheory.convex.online_learning.adaptive import (
    AdaGrad,
    OnlineNewtonStep,
    simplex_quadratic,
)
from mdtheory.convex.online_learning.environments import (
    Adversary,
    LinearLosses,
    LogisticLosses,
    Losses,
    PortfolioLosses,
    QuadraticLosses,
    punish_heaviest,
    push_sideways,
)
from mdtheory.convex.online_learning.learners import (
    FollowTheRegularizedLeader,
    Hedge,
    Learner,
    OnlineMirrorDescent,
    OptimisticMirrorDescent,
)
from mdtheory.convex.online_learning.oblivious import (
    ftrl_decisions,
    hedge_decisions,
    hedge_losses,
)
from mdtheory.convex.online_learning.portfolios import (
    best_constant_gap,
    best_constant_portfolio,
    dirichlet,
    log_wealth,
    universal_portfolio,
)
from mdtheory.convex.online_learning.protocol import Environment, GameRecord, play, regret

__all__ = [
    "AdaGrad",
    "Adversary",
    "Environment",
    "FollowTheRegularizedLeader",
    "GameRecord",
    "Hedge",
    "Learner",
    "LinearLosses",
    "LogisticLosses",
    "Losses",
    "OnlineMirrorDescent",
    "OnlineNewtonStep",
    "OptimisticMirrorDescent",
    "PortfolioLosses",
    "QuadraticLosses",
    "best_constant_gap",
    "best_constant_portfolio",
    "bounds",
    "dirichlet",
    "ftrl_decisions",
    "hedge_decisions",
    "hedge_losses",
    "log_wealth",
    "play",
    "punish_heaviest",
    "push_sideways",
    "regret",
    "simplex_quadratic",
    "universal_portfolio",
]
