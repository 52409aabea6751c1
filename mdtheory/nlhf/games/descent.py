"""Magnetic mirror descent: the mirror step of chapter one, played by both players at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_number,
    require_scale,
    require_values,
    values_known,
)
from mdtheory.convex.mirror_maps import dual_step, mixture
from mdtheory.nlhf.games.convexity import guaranteed_step
from mdtheory.nlhf.games.matrix import MatrixGame
from mdtheory.nlhf.games.measures import Game, require_game
from mdtheory.nlhf.games.strategies import Strategies
from mdtheory.nlhf.games.tree import ExtensiveGame

Setting = float | Tensor | Callable[[int], float]
FORMS = ("dilated", "behavioural")


def magnetic_mirror_descent(
    game: Game,
    iterations: int,
    temperature: Setting,
    step_size: Setting | None = None,
    *,
    magnet: Strategies | None = None,
    magnet_rate: float = 0.0,
    start: Strategies | None = None,
    extragradient: bool = False,
    form: str = "dilated",
) -> Strategies:
    r"""The last strategies of magnetic mirror descent.

    Equation ``eq-magnetic-descent``: both players take the step ``eq-dual-step`` at once, with
    what their actions cost against the other's present strategy as the gradient, a magnet, and the
    temperature as its weight.

    Args:
        game: a matrix game (or a batch of them), or a game in extensive form.
        iterations: number of steps.
        temperature: :math:`\tau \ge 0`: a number, a tensor of the batch's shape, or a function of
            the iteration 1, 2, ... that returns a number, such as :func:`inverse_root`.
        step_size: :math:`\eta > 0`, likewise. By default :func:`guaranteed_step`, for which
            ``thm-magnetic-rate`` holds; it needs a temperature above 0 that does not change, and
            does not cover the behavioural form.
        magnet: strategies that the step is pulled to; by default the (dilated) entropy itself,
            which in a matrix game is a pull to the uniform strategies.
        magnet_rate: :math:`s`: after every step the magnet moves to
            :math:`\rho^{1-s} z_{t+1}^{s}`, row by row; the *new* strategies pull it.
        start: the first strategies, uniform by default.
        extragradient: take the gradient at a trial step, equation ``eq-extragradient``.
        form: for extensive games ``"dilated"``, the mirror step of the dilated entropy in sequence
            form, or ``"behavioural"``, a step in every row with :meth:`ExtensiveGame.action_values`
            as its gradient, for which no convergence is proved.

    Returns:
        The pair of log-probabilities after the last step.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape or range, or the strategies overflow.

    Source:
        Sokota et al. (2023).
    """
    descent = _prepare(
        game, temperature, step_size, magnet, magnet_rate, start, extragradient, form
    )
    *_, last = deque(descent.run(require_count("iterations", iterations, 0)), maxlen=1)
    return _handed_out(game, last, step_size)


def magnetic_iterates(
    game: Game,
    iterations: int,
    temperature: Setting,
    step_size: Setting | None = None,
    *,
    magnet: Strategies | None = None,
    magnet_rate: float = 0.0,
    start: Strategies | None = None,
    extragradient: bool = False,
    form: str = "dilated",
) -> Iterator[Strategies]:
    """All strategies of :func:`magnetic_mirror_descent`, the start included.

    The arguments are those of :func:`magnetic_mirror_descent`. Every pair is in memory of its own.

    Returns:
        An iterator over ``iterations + 1`` pairs.
    """
    descent = _prepare(
        game, temperature, step_size, magnet, magnet_rate, start, extragradient, form
    )
    states = descent.run(require_count("iterations", iterations, 0))
    # Arguments are checked at the call, not at the first iterate.
    return (_handed_out(game, logs, step_size) for logs in states)


def inverse_root(scale: float) -> Callable[[int], float]:
    r"""The schedule :math:`c / \sqrt t`.

    Args:
        scale: :math:`c > 0`.

    Returns:
        A function of the iteration 1, 2, ...

    Raises:
        TypeError: not a number.
        ValueError: not above 0.
    """
    c = require_number("scale", scale, 0.0, strict=True)
    return lambda iteration: c / math.sqrt(iteration)


class _Descent(NamedTuple):
    """What the steps need, all of it checked; vectors are the joined ones of the game."""

    start: Tensor
    magnet: Tensor
    temperature: Callable[[int], float | Tensor]
    step_size: Callable[[int], float | Tensor]
    magnet_rate: float
    extragradient: bool
    operator: Callable[[Tensor], Tensor]
    normalize: Callable[[Tensor], Tensor]
    normalize_rows: Callable[[Tensor], Tensor]

    def run(self, iterations: int) -> Iterator[Tensor]:
        """The state, ``iterations + 1`` times; what takes it must not write into it."""
        logs, magnet = self.start, self.magnet
        yield logs
        for iteration in range(1, iterations + 1):
            step, weight = self.step_size(iteration), self.temperature(iteration)
            gradient = self.operator(logs)
            if self.extragradient:
                trial = dual_step(logs, gradient, step, magnet, weight)
                gradient = self.operator(self.normalize(trial))
            dual = dual_step(logs, gradient, step, magnet, weight)
            logs = self.normalize(dual)
            if self.magnet_rate:
                magnet = self._moved(magnet, logs)
            yield logs

    def _moved(self, magnet: Tensor, logs: Tensor) -> Tensor:
        # What the mixture takes from all rows together, the normalisation of each gives back.
        return self.normalize_rows(mixture(magnet, logs, self.magnet_rate))


def _handed_out(game: Game, logs: Tensor, step_size: Setting | None) -> Strategies:
    """The strategies in their own memory, unless they have run out of numbers."""
    if values_known(logs) and bool(logs.isnan().any()):
        raise ValueError(
            f"step_size: expected steps that keep the strategies finite, got {step_size!r}"
        )
    first, second = game.split(logs)
    return first.clone(), second.clone()


def _prepare(
    game: Game,
    temperature: Setting,
    step_size: Setting | None,
    magnet: Strategies | None,
    magnet_rate: float,
    start: Strategies | None,
    extragradient: bool,
    form: str,
) -> _Descent:
    require_game(game)
    if form not in FORMS:
        raise ValueError(f"form: expected one of {FORMS}, got {form!r}")
    if require_number("magnet_rate", magnet_rate, 0.0) > 1:
        raise ValueError(f"magnet_rate: expected a number in [0, 1], got {magnet_rate!r}")
    logs = game.check("start", start if start is not None else game.uniform())
    if magnet is not None:
        pull = game.check("magnet", magnet)
    elif magnet_rate:
        pull = game.join(game.uniform())
    else:
        # The (dilated) entropy itself: no pull among legal actions, and none to the others.
        pull = torch.zeros_like(logs) if isinstance(game, MatrixGame) else game.legal_logs()
    if step_size is None:
        step_size = _default_step(game, temperature, extragradient, form)
    steps = _schedule("step_size", step_size, logs, strict=True)
    weights = _schedule("temperature", temperature, logs, strict=False)
    logs, pull = _batched(logs, pull, (step_size, temperature))
    require_values("magnet", pull, (pull > -math.inf) | (logs == -math.inf), "a magnet above "
                   "probability 0 wherever the start is")  # fmt: skip
    _refuse_endless(step_size, temperature, logs)
    operator: Callable[[Tensor], Tensor]
    if isinstance(game, MatrixGame):
        matrix = game
        operator = lambda z: matrix.losses(z.exp())  # noqa: E731
        normalize = rows = matrix.normalize
    else:
        tree: ExtensiveGame = game
        rows = tree.normalize_rows
        if form == "dilated":
            operator = lambda z: tree.losses(tree.reach(z))  # noqa: E731
            normalize = tree.normalize
        else:
            operator, normalize = tree.conditional_losses, rows
    return _Descent(
        logs, pull, weights, steps, magnet_rate, extragradient, operator, normalize, rows
    )


def _default_step(
    game: Game, temperature: Setting, extragradient: bool, form: str
) -> float | Tensor:
    if callable(temperature) or (isinstance(game, ExtensiveGame) and form != "dilated"):
        raise ValueError(
            "step_size: expected a step for a temperature that changes and for the behavioural "
            "form, where no step is known to be safe, got None"
        )
    step = guaranteed_step(game, temperature, extragradient=extragradient)
    if values_known(step) and not bool((step > 0).all()):
        raise ValueError(
            "step_size: expected a step where the temperature is 0, or so far below the payoffs "
            "that no number is a safe step, got None"
        )
    return step


def _schedule(
    name: str, value: Setting, logs: Tensor, *, strict: bool
) -> Callable[[int], float | Tensor]:
    """The setting of each iteration, ready to meet a vector of the game."""
    if callable(value):
        function = value
        return lambda iteration: require_number(
            f"{name}({iteration})", function(iteration), 0.0, strict=strict
        )
    batch = logs.shape[:-1]
    ready = require_scale(name, value, logs, batch, strict=strict, infinite=strict, trailing=1)
    return lambda iteration: ready


def _refuse_endless(step_size: Setting, temperature: Setting, logs: Tensor) -> None:
    """An infinite step ends only where a magnet holds it."""
    if callable(step_size):
        return
    weight = 0.0 if callable(temperature) else temperature
    steps, weights = (
        value if isinstance(value, Tensor) else logs.new_full((), value)
        for value in (step_size, weight)
    )
    held = steps.isfinite() | (weights > 0)
    require_values("step_size", steps, held, "finite steps where the temperature may be 0")


def _batched(logs: Tensor, pull: Tensor, settings: tuple[Setting, ...]) -> tuple[Tensor, Tensor]:
    """Start and magnet, of one shape with the settings."""
    shapes = [logs.shape[:-1], pull.shape[:-1]]
    shapes += [value.shape for value in settings if isinstance(value, Tensor)]
    try:
        batch = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise ValueError(
            f"start, magnet, settings: expected batch shapes that broadcast, got "
            f"{[tuple(shape) for shape in shapes]}"
        ) from None
    return logs.expand(*batch, -1), pull.expand(*batch, -1)
