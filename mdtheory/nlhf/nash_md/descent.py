"""Nash mirror descent in tables, its rates, and the runs beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_scale, require_values
from mdtheory.convex.mirror_maps import dual_step, mixture
from mdtheory.nlhf.nash_md.preference import PreferenceGame, require_game, require_step

Step = float | Tensor


def nash_md(
    game: PreferenceGame, iterations: int, step_size: float | Tensor | None = None
) -> Tensor:
    r"""Nash mirror descent: the last policy.

    Equations ``eq-nash-md`` and ``eq-nash-md-schedule``. It starts at the reference, and in each
    iteration takes a mirror step from the mixture of policy and reference against that mixture.
    With a constant step its limit is not the Nash equilibrium of this temperature, see
    ``cor-constant-bias``.

    Args:
        game: preference games; a temperature of 0 is allowed with a constant step, and is Hedge in
            self-play.
        iterations: how many, at least 0.
        step_size: :math:`\eta` with :math:`0 < \eta\tau < 1`, a number or a tensor of the batch's
            shape; ``None`` for :math:`\eta_t = 2/(\tau(t + 2))`.

    Returns:
        Log-probabilities ``(..., n)`` of the batch's shape.

    Raises:
        TypeError: no preference game, or a step of another kind.
        ValueError: fewer than 0 iterations, a step out of range, or no step with a temperature
            of 0.

    Source:
        Munos et al. (2024), section 6.
    """
    *_, last = deque(_duals(game, *_schedule(game, iterations, step_size)), maxlen=1)
    return last.log_softmax(-1)


def nash_md_iterates(
    game: PreferenceGame, iterations: int, step_size: float | Tensor | None = None
) -> Iterator[Tensor]:
    r"""All policies of :func:`nash_md`, the first one, the reference, included.

    The arguments are those of :func:`nash_md`.

    Returns:
        An iterator over ``iterations + 1`` policies, log-probabilities ``(..., n)``.
    """
    run = _duals(game, *_schedule(game, iterations, step_size))
    return (dual.log_softmax(-1) for dual in run)


def self_play_iterates(
    game: PreferenceGame, iterations: int, step_size: float | Tensor | None = None
) -> Iterator[Tensor]:
    r"""Online mirror descent: from the mixture as :func:`nash_md`, but against the policy itself.

    Equation ``eq-self-play``; it is the magnetic step ``eq-magnetic-step`` against its own policy
    with :math:`\gamma = \eta/(1 - \eta\tau)`. At a temperature of 0 it is Hedge in self-play.

    The arguments are those of :func:`nash_md`.

    Returns:
        An iterator over ``iterations + 1`` policies, log-probabilities ``(..., n)``.

    Raises:
        TypeError: as :func:`nash_md`.
        ValueError: likewise.

    Source:
        Munos et al. (2024), equation (8).
    """
    run = _duals(game, *_schedule(game, iterations, step_size), against_itself=True)
    return (dual.log_softmax(-1) for dual in run)


def nash_md_rate(temperature: Step, iterations: int) -> Tensor:
    r"""The paper's bound for the schedule, :math:`8/(\tau^2(T + 1))`.

    Sixteen times what ``thm-nash-md`` proves.

    Args:
        temperature: :math:`\tau > 0`, a number or a tensor of any shape.
        iterations: the largest :math:`T`, at least 1.

    Returns:
        The bounds for :math:`T = 1, \dots` along a new first axis.

    Raises:
        TypeError: no number.
        ValueError: a temperature of 0, or no iteration.
    """
    count = require_count("iterations", iterations, 1)
    like = temperature if isinstance(temperature, Tensor) else torch.ones((), dtype=torch.float64)
    tau = torch.as_tensor(require_scale("temperature", temperature, like, strict=True)).to(like)
    times = torch.arange(1, count + 1, dtype=tau.dtype, device=tau.device)
    return 8 / tau / tau / (times.reshape(-1, *[1] * tau.ndim) + 1)


def shifted_temperature(temperature: Step, step_size: Step) -> Step:
    r"""The temperature for which constant-step Nash-MD's mixture plays, :math:`\tau/(1-\eta\tau)`.

    Args:
        temperature: :math:`\tau`, a number or a tensor of any shape.
        step_size: :math:`\eta` with :math:`\eta\tau < 1`, likewise.

    Returns:
        That temperature, see ``thm-equivalence``.

    Raises:
        TypeError: not numbers or tensors of one dtype.
        ValueError: a number below 0, or :math:`\eta\tau` is not below 1.
    """
    kinds = [each for each in (temperature, step_size) if isinstance(each, Tensor)]
    like = kinds[0] if kinds else torch.ones((), dtype=torch.float64)
    tau = require_scale("temperature", temperature, like)
    step = require_scale("step_size", step_size, like, like.shape)
    weight = step * tau
    if isinstance(weight, Tensor):
        require_values("step_size", weight, weight < 1, "steps with step * temperature < 1")
    elif not weight < 1:
        raise ValueError(f"step_size: expected step * temperature < 1, got {weight!r}")
    return tau / (1 - weight)


def _duals(
    game: PreferenceGame,
    dual: Tensor,
    steps: Iterator[tuple[Step, Step]],
    *,
    against_itself: bool = False,
) -> Iterator[Tensor]:
    """Every policy up to a constant that changes no probability, the first one included."""
    yield dual
    for weight, step in steps:
        mixed = mixture(dual, game.reference, weight)
        opponent = dual.log_softmax(-1) if against_itself else mixed
        dual = dual_step(mixed, -game.preferred(opponent), step)
        yield dual


def _schedule(
    game: PreferenceGame, iterations: int, step_size: float | Tensor | None
) -> tuple[Tensor, Iterator[tuple[Step, Step]]]:
    """Where to start, and for each iteration the mixture's weight and the step."""
    require_game(game, positive=step_size is None)
    require_count("iterations", iterations, 0)
    if step_size is None:
        tau = game._weight
        shares = (2 / (t + 2) for t in range(iterations))
        return game.policy(), ((share, share / tau) for share in shares)
    step = require_step(step_size, game)
    weight = step * game._weight
    if isinstance(weight, Tensor):
        require_values("step_size", weight, weight < 1, "steps with step * temperature < 1")
    elif not weight < 1:
        raise ValueError(
            f"step_size: expected a step with step * temperature < 1, got {step!r} * "
            f"{game.temperature!r}"
        )
    start = game.policy()
    if isinstance(step, Tensor):
        start = start.expand(torch.broadcast_shapes(start.shape, step.shape))
    return start, ((weight, step) for _ in range(iterations))
