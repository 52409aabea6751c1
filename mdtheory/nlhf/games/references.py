"""Equilibria by other means than descent: a linear programme and Newton's method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_extra, require_number, require_scale, require_values
from mdtheory.nlhf.games.matrix import MatrixGame
from mdtheory.nlhf.games.measures import Game, require_game
from mdtheory.nlhf.games.newton import regularized_equilibrium
from mdtheory.nlhf.games.strategies import Strategies
from mdtheory.nlhf.games.tree import ExtensiveGame

F64 = torch.float64
# The largest gap of a linear programme's answer, in units of half the range of the payoffs, and
# the tightest tolerances that HiGHS takes.
GAP = 1e-9
TOLERANCES = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
# Below this weight a row is not reached.
REACHED = 1e-9


def linear_program(game: Game) -> tuple[float, Strategies]:
    """Value and equilibrium of one game by a linear programme, solved by HiGHS through SciPy.

    Equation ``eq-linear-program``, solved once: the first player's strategy is its solution, the
    second player's that of its dual. The programme is that of :meth:`MatrixGame.normalized`, so
    units do not matter, and the answer's gap is computed from the strategies alone.

    Args:
        game: one matrix game, or a game in extensive form.

    Returns:
        The value for the first player, and both strategies as log-probabilities; rows that a
        player never reaches himself are uniform. No gradient flows to the payoffs.

    Raises:
        TypeError: no game.
        ValueError: a batch of games.
        ImportError: SciPy is not installed.
        ArithmeticError: the solver failed, or the gap of its answer is above ``GAP`` times half
            the range of the payoffs.

    Source:
        von Neumann and Morgenstern (1944); von Stengel (1996) for the sequence form.
    """
    game = require_game(game)
    if isinstance(game, MatrixGame) and game.batch_shape:
        raise ValueError(f"game: expected one game, got a batch {tuple(game.batch_shape)}")
    own: Game
    with torch.no_grad():
        if isinstance(game, ExtensiveGame):
            own, centre, unit = game.double().normalized()
            value, pair = _of_tree(own)
        else:
            own, centre, unit = MatrixGame(game.payoff.double()).normalized()
            value, pair = _of_matrix(own)
        gap = own.nash_conv(pair).item()
    if not gap <= GAP:
        raise ArithmeticError(
            f"linear_program: the gap of the solver's answer is {gap * unit.item()!r}, more than "
            f"{GAP * unit.item()!r}"
        )
    first, second = (side.to(game.payoff.dtype) for side in pair)
    return centre.item() + unit.item() * value, (first, second)


def _of_matrix(game: MatrixGame) -> tuple[float, Strategies]:
    """The largest ``w`` with ``w <= A^T x`` in every entry."""
    payoff = game.payoff.cpu().numpy()
    rows, columns = payoff.shape
    sparse = require_extra("scipy.sparse", "notebooks")
    above = sparse.hstack([sparse.csr_array(-payoff.T), sparse.csr_array([[1.0]] * columns)])
    whole = sparse.csr_array([[1.0] * rows + [0.0]])
    value, x, y = _solved(above, whole, rows)
    pair = [torch.as_tensor(side, dtype=F64).clamp(min=0) for side in (x, y)]
    first, second = ((side / side.sum()).log().to(game.payoff.device) for side in pair)
    return value, (first, second)


def _of_tree(game: ExtensiveGame) -> tuple[float, Strategies]:
    """Weights of one player's sequences against what the other's rows are worth to him."""
    payoff, flows = _sequence_form(game)
    sparse = require_extra("scipy.sparse", "notebooks")
    above = sparse.hstack([-payoff.T, flows[1].T])
    whole = sparse.hstack([flows[0], sparse.csr_array((flows[0].shape[0], flows[1].shape[0]))])
    value, x, y = _solved(above, whole, flows[0].shape[1])
    logs = []
    for weights, legal, even in zip((x, y), game.legal, game.uniform(), strict=True):
        rows = torch.as_tensor(weights[1:], dtype=F64).clamp(min=0).unflatten(-1, legal.shape)
        rows = torch.where(legal, rows.to(legal.device), 0.0)
        total = rows.sum(-1, keepdim=True)
        logs.append(torch.where(total > REACHED, (rows / total).log(), even))
    return value, (logs[0], logs[1])


def _solved(above: Any, whole: Any, count: int) -> tuple[float, Any, Any]:
    """One programme: maximise the number behind the first ``count``, which are at least 0.

    Subject to ``above @ z <= 0`` and ``whole @ z = e_1``; also its dual for the first of these.
    """
    optimize = require_extra("scipy.optimize", "notebooks")
    goal = torch.zeros(above.shape[1], dtype=F64)
    goal[count] = -1
    source = torch.zeros(whole.shape[0], dtype=F64)
    source[0] = 1
    bounds = [(0, None)] * count + [(None, None)] * (above.shape[1] - count)
    found = optimize.linprog(
        goal.numpy(), A_ub=above, b_ub=[0.0] * above.shape[0], A_eq=whole, b_eq=source.numpy(),
        bounds=bounds, method="highs", options=TOLERANCES,
    )  # fmt: skip
    if found.status != 0:
        raise ArithmeticError(f"linear_program: the solver says {found.message}")
    return -float(found.fun), found.x[:count], -found.ineqlin.marginals


def _sequence_form(game: ExtensiveGame) -> tuple[Any, tuple[Any, Any]]:
    """Payoff and flows as sparse matrices; column 0 is a player's empty sequence."""
    sparse = require_extra("scipy.sparse", "notebooks")
    width, position = game.actions, game.position.cpu()
    own = torch.zeros(game.size, dtype=torch.int64)
    places = position.split(game.rows)
    for rows in places:
        slots = 2 + rows[:, None] * width + torch.arange(width)
        own[slots.flatten()] = 1 + torch.arange(slots.numel())
    flows = []
    for rows, legal in zip(places, game.legal, strict=True):
        row, action = legal.cpu().nonzero().unbind(-1)
        above, count = own[game.above.cpu()[rows]], len(rows)
        entries = torch.cat([torch.ones(1 + len(row)), -torch.ones(count)]).double()
        down = torch.cat([torch.zeros(1).long(), 1 + row, 1 + torch.arange(count)])
        right = torch.cat([torch.zeros(1).long(), 1 + row * width + action, above])
        shape = (1 + count, 1 + count * width)
        flows.append(sparse.csr_array((entries.numpy(), (down.numpy(), right.numpy())), shape))
    first, second, amount = (part.cpu() for part in game.pairs())
    places_of = (own[first].numpy(), own[second].numpy())
    shape = (flows[0].shape[1], flows[1].shape[1])
    payoff = sparse.csr_array((amount.double().numpy(), places_of), shape)
    return payoff, (flows[0], flows[1])


def quantal_response(
    game: MatrixGame,
    temperature: float | Tensor,
    magnet: Strategies | None = None,
    tolerance: float = 1e-12,
) -> Strategies:
    r"""The equilibrium of the regularised game, by Newton's method.

    Proposition ``prop-quantal-response``: the only pair with :math:`x \propto \rho\,e^{Ay/\tau}`
    and :math:`y \propto \rho'\,e^{-A^\top x/\tau}`. The Jacobian in the log-probabilities is a
    positive diagonal plus a skew matrix, so it can always be solved.

    Args:
        game: matrix games, one or a batch.
        temperature: :math:`\tau > 0`, a number or a tensor of the batch's shape.
        magnet: strategies of full support, uniform by default.
        tolerance: the largest span, of both players, of
            :math:`\tau(\log z - \log\rho) + F(z)` at the answer, in units of half the range of
            the payoffs; never asked below what the dtype can hold.

    Returns:
        Log-probabilities ``(..., m)`` and ``(..., n)``.

    Raises:
        TypeError: no matrix game, or a temperature of another dtype.
        ValueError: a wrong shape, a temperature that is not above 0, a magnet with a 0.
        ArithmeticError: no answer within the tolerance was found.

    Source:
        McKelvey and Palfrey (1995).
    """
    if not isinstance(game, MatrixGame):
        raise TypeError(f"game: expected a MatrixGame, got {type(game).__name__}")
    pull = game.check("magnet", magnet if magnet is not None else game.uniform())
    require_values("magnet", pull, pull.isfinite(), "probabilities above 0")
    require_number("tolerance", tolerance, 0.0, strict=True)
    tau = require_scale("temperature", temperature, game.payoff, game.batch_shape, strict=True)
    own, _, unit = game.normalized()
    m, count = game.rows, game.rows + game.columns
    costs = own.payoff.new_zeros(*game.batch_shape, count, count)
    costs[..., :m, m:] = -own.payoff
    costs[..., m:, :m] = own.payoff.mT
    low = tau / unit
    require_values("temperature", low, low > 0, "temperatures that the range of payoffs can meet")
    logs = regularized_equilibrium(costs, (m, game.columns), pull, low, tolerance)
    first, second = game.split(logs)
    return first.clone(), second.clone()
