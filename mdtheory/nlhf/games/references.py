"""Equilibria by other means than descent: linear programmes and Newton's method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_extra, require_number, require_values, values_known
from mdtheory.nlhf.games.matrix import MatrixGame
from mdtheory.nlhf.games.measures import Game, require_game
from mdtheory.nlhf.games.strategies import Strategies
from mdtheory.nlhf.games.tree import ExtensiveGame

F64 = torch.float64
# Newton's method is started at a temperature that is easy and follows it down by this factor.
EASY, COOLING = 0.25, 0.5
NEWTON_STEPS = 100


def linear_program(game: Game) -> tuple[float, Strategies]:
    """Value and equilibrium of one game by linear programmes, solved by HiGHS through cvxpy.

    Equation ``eq-linear-program``; one programme for each player.

    Args:
        game: one matrix game, or a game in extensive form.

    Returns:
        The value for the first player, and both strategies as log-probabilities; rows that a
        player never reaches himself are uniform.

    Raises:
        TypeError: no game.
        ValueError: a batch of games.
        ImportError: cvxpy is not installed.
        ArithmeticError: the solver failed.

    Source:
        von Neumann and Morgenstern (1944); von Stengel (1996) for the sequence form.
    """
    game = require_game(game)
    if isinstance(game, ExtensiveGame):
        return _of_tree(game)
    if game.batch_shape:
        raise ValueError(f"game: expected one game, got a batch {tuple(game.batch_shape)}")
    payoff = game.payoff.to("cpu", F64).numpy()
    value, x = _maximin(payoff)
    _, y = _maximin(-payoff.T)
    pair = [torch.as_tensor(p, dtype=F64).clamp(min=0) for p in (x, y)]
    first, second = ((p / p.sum()).log().to(game.payoff) for p in pair)
    return value, (first, second)


def _maximin(payoff: Any) -> tuple[float, Any]:
    cvxpy = require_extra("cvxpy", "notebooks")
    x, value = cvxpy.Variable(payoff.shape[0], nonneg=True), cvxpy.Variable()
    return _solved(value, [payoff.T @ x >= value, cvxpy.sum(x) == 1]), x.value


def _solved(goal: Any, constraints: list[Any]) -> float:
    cvxpy = require_extra("cvxpy", "notebooks")
    problem = cvxpy.Problem(cvxpy.Maximize(goal), constraints)
    problem.solve(solver=cvxpy.SCIPY, scipy_options={"method": "highs"})
    if problem.status != "optimal":
        raise ArithmeticError(f"linear_program: the solver says {problem.status}")
    return float(problem.value)


def _of_tree(game: ExtensiveGame) -> tuple[float, Strategies]:
    """Weights of one player's sequences against what the other's rows are worth to him."""
    payoff, flows = _sequence_form(game)
    value, x = _tree_maximin(payoff, flows[0], flows[1])
    _, y = _tree_maximin(-payoff.T, flows[1], flows[0])
    logs = []
    for weights, legal, even in zip((x, y), game.legal, game.uniform(), strict=True):
        rows = torch.as_tensor(weights[1:], dtype=F64).clamp(min=0).unflatten(-1, legal.shape)
        rows = torch.where(legal.cpu(), rows, 0.0)
        total = rows.sum(-1, keepdim=True)
        chosen = torch.where(total > 1e-9, (rows / total).log(), even.to("cpu", F64))
        logs.append(chosen.to(game.payoff))
    return value, (logs[0], logs[1])


def _tree_maximin(payoff: Any, mine: Any, theirs: Any) -> tuple[float, Any]:
    """The first row of a flow says that the empty sequence weighs 1."""
    cvxpy = require_extra("cvxpy", "notebooks")
    weights = cvxpy.Variable(mine.shape[1], nonneg=True)
    worth = cvxpy.Variable(theirs.shape[0])
    source = torch.zeros(mine.shape[0], dtype=F64)
    source[0] = 1
    constraints = [
        mine @ weights == source.numpy(),
        payoff.T @ weights >= theirs.T @ worth,
    ]
    return _solved(worth[0], constraints), weights.value


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
            :math:`\tau(\log z - \log\rho) + F(z)` at the answer, in units of the largest payoff;
            never asked below what the dtype can hold.

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
    tau = _temperature(temperature, game)
    scale = game.payoff.abs().amax((-2, -1))
    scale = torch.where(scale > 0, scale, 1.0)
    batch = torch.broadcast_shapes(pull.shape[:-1], tau.shape)
    newton = _Newton(game, pull.expand(*batch, -1), scale.expand(batch))
    logs = newton.magnet
    if not values_known(logs):
        return game.split(newton.step(logs, tau.expand(batch)))
    tau, warm = tau.expand(batch), EASY
    while bool((tau < warm * newton.scale).any()):
        logs = newton.solve(logs, torch.maximum(tau, warm * newton.scale), max(tolerance, 1e-6))
        warm *= COOLING
    return game.split(newton.solve(logs, tau, tolerance))


def _temperature(value: float | Tensor, game: MatrixGame) -> Tensor:
    if not isinstance(value, Tensor):
        number = require_number("temperature", value, 0.0, strict=True)
        return game.payoff.new_full(game.batch_shape, number)
    if value.dtype != game.payoff.dtype:
        raise TypeError(f"temperature: expected {game.payoff.dtype}, got {value.dtype}")
    require_values("temperature", value, (value > 0) & value.isfinite(), "temperatures > 0")
    try:
        torch.broadcast_shapes(value.shape, game.batch_shape)
    except RuntimeError:
        raise ValueError(
            f"temperature: expected the batch shape {tuple(game.batch_shape)}, got "
            f"{tuple(value.shape)}"
        ) from None
    return value


class _Newton:
    """Newton's method on the conditions of the regularised equilibrium."""

    def __init__(self, game: MatrixGame, magnet: Tensor, scale: Tensor) -> None:
        self.game, self.magnet, self.scale = game, magnet, scale
        m, n = game.rows, game.columns
        self.system = game.payoff.new_zeros(*game.batch_shape, m + n, m + n)
        self.system[..., :m, m:] = -game.payoff
        self.system[..., m:, :m] = game.payoff.mT
        self.owner = game.payoff.new_zeros(m + n, 2)
        self.owner[:m, 0] = 1
        self.owner[m:, 1] = 1

    def residual(self, logs: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        value = tau[..., None] * (logs - self.magnet) + self.game.losses(logs.exp())
        spans = [part.amax(-1) - part.amin(-1) for part in self.game.split(value)]
        return value, torch.maximum(*spans)

    def step(self, logs: Tensor, tau: Tensor) -> Tensor:
        p, count = logs.exp(), logs.shape[-1]
        full = p.new_zeros(*p.shape[:-1], count + 2, count + 2)
        full[..., :count, :count] = self.system * p[..., None, :]
        full.diagonal(dim1=-2, dim2=-1)[..., :count] += tau[..., None]
        full[..., :count, count:] = self.owner
        full[..., count:, :count] = self.owner.mT * p[..., None, :]
        right = torch.nn.functional.pad(-self.residual(logs, tau)[0], (0, 2))
        return torch.linalg.solve(full, right)[..., :count]

    def solve(self, logs: Tensor, tau: Tensor, tolerance: float) -> Tensor:
        eps = torch.finfo(logs.dtype).eps
        reach = self.scale + tau * (1 + self.magnet.abs().amax(-1))
        floor = torch.maximum(8 * eps * logs.shape[-1] ** 0.5 * reach, tolerance * self.scale)
        _, size = self.residual(logs, tau)
        for _ in range(NEWTON_STEPS):
            waiting = size > floor
            if not bool(waiting.any()):
                return logs
            change, length, before = self.step(logs, tau), 1.0, size
            while bool(waiting.any()) and length > 1e-12:
                trial = self.game.normalize(logs + length * change)
                _, there = self.residual(trial, tau)
                better = waiting & (there <= (1 - length / 4) * before)
                logs = torch.where(better[..., None], trial, logs)
                size = torch.where(better, there, size)
                waiting = waiting & ~better
                length /= 2
        raise ArithmeticError(
            f"tolerance: {tolerance!r} was not reached in {NEWTON_STEPS} steps of Newton's "
            f"method; {(size / self.scale).max().item()!r} is left"
        )
