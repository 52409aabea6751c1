r"""Bellman residuals without rounding, and values that are right where the discount is almost 1.

A value near :math:`1/(1-\gamma)` has lost the digits in which actions differ. Here it is an
unevaluated sum of two numbers, some 32 digits, and products with a transition matrix are exact:
both factors are cut into pieces so short that a sum of their products needs no rounding, whatever
the order in which a library adds (Ozaki, Ogita, Oishi and Rump, 2012). A solver in float64 then
only has to find corrections.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import values_known
from mdtheory.rl.policy_mirror_descent import sparse
from mdtheory.rl.policy_mirror_descent.sparse import times_power

EPS = torch.finfo(torch.float64).eps
# Below it 1 - gamma costs a plain solution more than three digits.
FAR = 1e-3
# Up to so many states a sparse system is solved as a dense one.
DIRECT = 1000
# Bits of a product with a pair, and what its rounding leaves of it.
DIGITS = 104
ROUNDING = 2.0**-100
ROUNDS = 40


class Pair(NamedTuple):
    """The sum of a number ``high`` and of what rounding took from it, ``low``."""

    high: Tensor
    low: Tensor

    def plus(self, other: Pair) -> Pair:
        """Sum, to about 32 digits."""
        high, low = two_sum(self.high, other.high)
        return Pair(*_tidy(high, low + (self.low + other.low)))

    def times(self, factor: Tensor | float) -> Pair:
        """Product with one number, to about 32 digits."""
        number = factor if isinstance(factor, Tensor) else self.high.new_full((), factor)
        high, low = two_product(self.high, number)
        return Pair(*_tidy(high, low + self.low * factor))

    def over(self, divisor: float) -> Pair:
        """Quotient, to about 32 digits."""
        high = self.high / divisor
        product, rest = two_product(high, high.new_full((), divisor))
        low = (((self.high - product) - rest) + self.low) / divisor
        return Pair(*_tidy(high, low))

    def shifted(self, exponent: Tensor) -> Pair:
        """Product with a power of two."""
        return Pair(times_power(self.high, exponent), times_power(self.low, exponent))

    def sum(self) -> Pair:
        """Sum over the last axis."""
        total = self
        while total.high.shape[-1] > 1:
            half = total.high.shape[-1] // 2
            first = Pair(total.high[..., :half], total.low[..., :half])
            second = Pair(total.high[..., half : 2 * half], total.low[..., half : 2 * half])
            both = first.plus(second)
            if total.high.shape[-1] % 2:
                both = Pair(
                    torch.cat([both.high, total.high[..., -1:]], -1),
                    torch.cat([both.low, total.low[..., -1:]], -1),
                )
            total = both
        return Pair(total.high[..., 0], total.low[..., 0])


def pair(number: Tensor) -> Pair:
    """A number as it is.

    Args:
        number: float64, any shape.

    Returns:
        The pair.
    """
    return Pair(number, torch.zeros_like(number))


def two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and its rounding error (Knuth).

    Args:
        a: float64.
        b: float64, of a shape that broadcasts.

    Returns:
        Two numbers whose sum is exact.
    """
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Product and its rounding error (Dekker, with Veltkamp's cut).

    Args:
        a: float64, far from overflow.
        b: float64, of a shape that broadcasts.

    Returns:
        Two numbers whose sum is exact.
    """
    product = a * b
    a_top, b_top = _top(a), _top(b)
    a_rest, b_rest = a - a_top, b - b_top
    error = ((a_top * b_top - product) + a_top * b_rest + a_rest * b_top) + a_rest * b_rest
    return product, error


class Units(NamedTuple):
    """Rewards shifted and scaled to [0, 1], and how: by a number and by powers of two.

    Attributes:
        numbers: the scaled rewards, shape ``(..., S, A)``, 0 where an action is not feasible.
        offset: what was taken away after the first scaling, shape ``(..., 1)``.
        first: exponent of the first scaling, shape ``(..., 1)``.
        second: exponent of the second one, same shape.
    """

    numbers: Pair
    offset: Tensor
    first: Tensor
    second: Tensor

    def shrink(self, price: Tensor) -> Tensor:
        """Differences of rewards ``(..., S)`` in the scaled units."""
        return times_power(price, -self.first - self.second)

    def enlarge(self, gain: Tensor) -> Tensor:
        """Differences of values ``(..., S, A)`` in the units of the rewards."""
        return times_power(gain, (self.first + self.second)[..., None])

    def size(self, v: Pair, discount: float) -> Tensor:
        """Size of the values of these rewards, in the scaled units, shape ``(...)``."""
        largest = self.numbers.high.abs().amax((-2, -1)) / (1 - discount)
        whole = v.plus(self._constant(discount).shifted(-self.second)).high.abs().amax(-1)
        return torch.maximum(largest, whole)

    def restore(self, v: Pair, discount: float) -> Tensor:
        """A value ``(..., S)`` in the units of the rewards.

        Raises:
            ArithmeticError: it is too large for its type.
        """
        whole = v.shifted(self.second).plus(self._constant(discount))
        value = times_power(whole.high, self.first)
        if values_known(value) and not bool(value.isfinite().all()):
            raise ArithmeticError("value: expected values that float64 can hold, got an overflow")
        return value

    def _constant(self, discount: float) -> Pair:
        return pair(self.offset).over(1 - discount)


def units(reward: Tensor, mask: Tensor | None) -> Units:
    """Rewards in [0, 1], as exact as pairs can be.

    Args:
        reward: float64, finite, shape ``(..., S, A)``.
        mask: which actions are feasible, of a shape that broadcasts; ``None`` for all.

    Returns:
        The scaled rewards and their scale, one for each process.
    """
    first = torch.frexp(reward.abs().amax((-2, -1), keepdim=True)).exponent
    scaled = times_power(reward, -first)
    low = scaled if mask is None else torch.where(mask, scaled, torch.inf)
    offset = low.amin((-2, -1), keepdim=True)
    numbers = Pair(*two_sum(scaled, -offset))
    if mask is not None:
        numbers = Pair(*(torch.where(mask, part, 0.0) for part in numbers))
    second = torch.frexp(numbers.high.amax((-2, -1), keepdim=True)).exponent
    return Units(numbers.shifted(-second), offset[..., 0], first[..., 0], second[..., 0])


def have_much_in_common(reward: Tensor, mask: Tensor | None) -> bool:
    """Whether the rewards of some process are large beside their differences.

    Args:
        reward: as in :func:`units`.
        mask: as in :func:`units`.

    Returns:
        The truth value.
    """
    found = units(reward, mask)
    return bool((found.second < math.log2(FAR)).any())


class Rows:
    """Rows of probabilities whose products with pairs are exact to about 32 digits.

    Args:
        matrix: entries in [0, 1], shape ``(..., m, n)``, or CSR of shape ``(m, n)``.
    """

    def __init__(self, matrix: Tensor) -> None:
        # A sum of n products of two numbers of so many bits is a whole number below 2^53.
        self.bits = (53 - math.ceil(math.log2(max(matrix.shape[-1], 2)))) // 2
        self.count = math.ceil(DIGITS / self.bits)
        if matrix.layout == torch.strided:
            parts, rest = _pieces(matrix, self.bits, self.count - 1)
        else:
            values, left = _pieces(matrix.values(), self.bits, self.count - 1)
            parts, rest = [_like(matrix, v) for v in values], _like(matrix, left)
        self.parts, self.rest = parts, rest
        ones = torch.ones(matrix.shape[-1], dtype=torch.float64, device=matrix.device)
        self.sums = self.product(pair(ones))

    def product(self, v: Pair) -> Pair:
        """Product with a vector ``(..., n)``.

        Args:
            v: the vector.

        Returns:
            Shape ``(..., m)``.
        """
        largest = v.high.abs().amax(-1, keepdim=True)
        exponent = torch.frexp(largest).exponent
        scaled = v.shifted(-exponent)
        heads, left = _pieces(scaled.high, self.bits, 2)
        tails, _ = _pieces(scaled.low + left, self.bits, self.count, 2)
        columns = torch.stack(heads + tails, -1)
        total = pair((self.rest @ scaled.high[..., None])[..., 0])
        for part in reversed(self.parts):  # the smallest first
            products = part @ columns
            for column in reversed(range(self.count)):
                total = total.plus(pair(products[..., column]))
        return total.shifted(exponent)


def residual(rows: Rows, right: Pair, v: Pair, discount: float) -> Pair:
    r"""What is missing from a value: :math:`b + \gamma M v - v`.

    Written :math:`b + \gamma (M v - (M 1)\, v) - (1-\gamma)\, v`: what rounding took from the sum
    of a row stays in its state. So rows that sum to 1 up to rounding are the law of a process for
    every discount, and where the sums are 1 it is the same.

    Args:
        rows: :math:`M`, shape ``(..., S, S)``, or of states and actions ``(..., S * A, S)``.
        right: :math:`b`, shape ``(..., S)`` or ``(..., S * A)``.
        v: shape ``(..., S)``.
        discount: :math:`\gamma`.

    Returns:
        Of the shape of ``right``.
    """
    here, actions = v, right.high.shape[-1] // v.high.shape[-1]
    if actions > 1:
        here = Pair(*(part.repeat_interleave(actions, -1) for part in v))
    # Two pairs: the sums are 1 up to rounding, so their low parts times a low part are nothing.
    kept = here.times(rows.sums.high).plus(pair(here.high * rows.sums.low))
    drift = rows.product(v).plus(kept.times(-1.0)).times(discount)
    return right.plus(drift).plus(here.times(discount - 1))


def action_residual(transition: Tensor, reward: Pair, v: Pair, discount: float) -> Pair:
    r"""Advantages :math:`r + \gamma P v - v`, in which nothing cancels.

    Args:
        transition: dense ``(..., S, A, S)``, or CSR ``(S * A, S)``.
        reward: shape ``(..., S, A)``.
        v: shape ``(..., S)``.
        discount: :math:`\gamma`.

    Returns:
        Shape ``(..., S, A)``.
    """
    if transition.layout == torch.strided:
        transition = transition.flatten(-3, -2)
    flat = Pair(*(part.flatten(-2) for part in reward))
    found = residual(Rows(transition), flat, v, discount)
    return Pair(*(part.unflatten(-1, reward.high.shape[-2:]) for part in found))


def solve(matrix: Tensor, right: Pair, discount: float) -> tuple[Pair, Tensor]:
    r"""The solution of :math:`v = b + \gamma M v` to about 30 digits.

    Args:
        matrix: rows of probabilities, shape ``(..., S, S)``, or CSR ``(S, S)``.
        right: :math:`b`, shape ``(..., S)``.
        discount: :math:`\gamma`.

    Returns:
        The solution ``(..., S)`` and a bound on its largest error, shape ``(...)``.
    """
    rows = Rows(matrix)
    return _refined(
        lambda v: residual(rows, right, v, discount), _corrector(matrix, discount), right, discount
    )


def solve_transposed(matrix: Tensor, right: Tensor, discount: float) -> Tensor:
    r"""The solution of :math:`d = b + \gamma M^\top d`, with digits of float64.

    Args:
        matrix: rows of probabilities, shape ``(..., S, S)``, or CSR ``(S, S)``.
        right: :math:`b \ge 0`, shape ``(..., S)``.
        discount: :math:`\gamma`.

    Returns:
        Shape ``(..., S)``.

    Raises:
        ArithmeticError: a correction no longer helps before that.
    """
    turned = matrix.mT if matrix.layout == torch.strided else sparse.transpose(matrix)
    columns, sums = Rows(turned), Rows(matrix).sums
    given = pair(right)

    def missing(d: Pair) -> Pair:
        stays = d.times(sums.high).plus(pair(d.high * sums.low))
        drift = columns.product(d).plus(stays.times(-1.0)).times(discount)
        return given.plus(drift).plus(d.times(discount - 1))

    share, error = _refined(missing, _corrector(matrix, discount, transposed=True), given, discount,
                            order=1)  # fmt: skip
    require_accuracy("occupancy", error, share.high.abs().sum(-1))
    return share.high


def require_accuracy(what: str, error: Tensor, size: Tensor) -> None:
    """Refuse an answer that is not right up to a few roundings.

    Args:
        what: whose answer, for the message.
        error: bounds on errors.
        size: sizes of the answers, same shape.

    Raises:
        ArithmeticError: an error is larger; the message names it.
    """
    if not bool((error <= 16 * EPS * size).all()):
        worst = (error / size).max().item()
        raise ArithmeticError(
            f"{what}: expected a relative accuracy of {16 * EPS:.1e}, rounding allows {worst:.1e}"
        )


def _refined(
    missing: Callable[[Pair], Pair],
    correct: Callable[[Tensor], Tensor],
    right: Pair,
    discount: float,
    order: float = math.inf,
) -> tuple[Pair, Tensor]:
    v, before = pair(correct(right.high)), None
    for _ in range(ROUNDS):
        gap = missing(v).high
        size = torch.linalg.vector_norm(gap, order, -1)
        scale = torch.linalg.vector_norm(v.high, order, -1)
        # Rounding of the residual itself, beside what it says.
        bound = (size + ROUNDING * scale) / (1 - discount)
        worst = torch.where(scale > 0, size / scale, size).amax()
        if bool(worst <= ROUNDING) or (before is not None and not bool(worst < before / 2)):
            break
        before = worst
        v = v.plus(pair(correct(gap)))
    return v, bound


def _corrector(
    matrix: Tensor, discount: float, transposed: bool = False
) -> Callable[[Tensor], Tensor]:
    """Approximate solutions of ``(I - discount * M) x = b`` for a fixed matrix."""
    if matrix.layout != torch.strided:
        if matrix.shape[0] > DIRECT:
            turned = sparse.transpose(matrix) if transposed else matrix

            def krylov(right: Tensor) -> Tensor:
                if not bool(right.any()):
                    return right
                return sparse.krylov_correction(turned, right, discount)

            return krylov
        matrix = matrix.to_dense()
    # The diagonal from the other entries: the rows of the system sum to 1 - discount exactly.
    others = matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))
    system = torch.diag_embed((1 - discount) + discount * others.sum(-1)) - discount * others
    factors = torch.linalg.lu_factor(system.mT if transposed else system)
    return lambda right: torch.linalg.lu_solve(*factors, right[..., None])[..., 0]


def _top(number: Tensor) -> Tensor:
    large = 134217729.0 * number  # 2^27 + 1
    return large - (large - number)


def _tidy(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    total = high + low
    return total, low - (total - high)


def _pieces(number: Tensor, bits: int, last: int, done: int = 0) -> tuple[list[Tensor], Tensor]:
    """Numbers of few bits each, multiples of ``2**(-bits * k)`` for k from ``done + 1``, and rest.

    The entries are at most 1 in size (``2**(-bits * done)``).
    """
    found = []
    for k in range(done + 1, last + 1):
        anchor = 1.5 * 2.0 ** (52 - bits * k)
        head = (number + anchor) - anchor
        found.append(head)
        number = number - head
    return found, number


def _like(matrix: Tensor, values: Tensor) -> Tensor:
    shape = (matrix.shape[0], matrix.shape[1])
    return sparse.csr(matrix.crow_indices(), matrix.col_indices(), values, shape)
