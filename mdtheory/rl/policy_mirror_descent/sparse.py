"""Large single processes: sparse rows, and linear systems whose solution is certified."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

# Vectors of one Krylov space, before it is started anew.
BASIS = 40
# A residual of this many roundings of the solution counts as none.
ROUNDINGS = 32.0
# Plain iterations at most: with a discount almost 1 they would not end.
SWEEPS = 100_000


def times_power(number: Tensor, exponent: Tensor) -> Tensor:
    """Product with a power of two, also where the power itself would overflow.

    Args:
        number: float64.
        exponent: whole numbers between -2000 and 2000, of a shape that broadcasts.

    Returns:
        The product; infinite where it overflows.
    """
    half = exponent.to(torch.int64) // 2
    for part in (half, exponent - half):
        number = number * ((part.to(torch.int64) + 1023) << 52).view(torch.float64)
    return number


def csr(row_starts: Tensor, columns: Tensor, entries: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix by its compressed rows, without PyTorch's note that the layout is young.

    Args:
        row_starts: where each row begins in ``columns``, shape ``(rows + 1,)``.
        columns: column of each entry, shape ``(n,)``.
        entries: their values, shape ``(n,)``.
        shape: rows and columns.

    Returns:
        The matrix.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse ")
        matrix = torch.sparse_csr_tensor(
            row_starts, columns, entries, shape, check_invariants=False
        )
    if entries.requires_grad:
        # PyTorch adds sparse gradients without the entries that are 0, and then misses them. So
        # all uses of a matrix share these entries, and their gradients add up as dense ones.
        matrix.entries = entries  # type: ignore[attr-defined]
    return matrix


def entries_of(matrix: Tensor) -> Tensor:
    """Entries of a matrix in its own order; gradients flow through them.

    Args:
        matrix: CSR.

    Returns:
        Shape ``(n,)``.
    """
    shared: Tensor | None = getattr(matrix, "entries", None)
    return matrix.values() if shared is None else shared


def to_csr(matrix: Tensor) -> Tensor:
    """A sparse matrix with compressed rows.

    Args:
        matrix: CSR or COO.

    Returns:
        The same matrix as CSR.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse ")
        found = matrix.to_sparse_csr()
    if not found.requires_grad:
        return found
    shape = (found.shape[0], found.shape[1])
    return csr(found.crow_indices(), found.col_indices(), found.values(), shape)


def transpose(matrix: Tensor) -> Tensor:
    """The transposed matrix, again with compressed rows.

    Args:
        matrix: CSR.

    Returns:
        CSR.
    """
    rows, columns = matrix.shape
    order = torch.argsort(matrix.col_indices(), stable=True)
    counts = torch.bincount(matrix.col_indices(), minlength=columns)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return csr(starts, row_of(matrix)[order], entries_of(matrix)[order], (columns, rows))


def follow(transition: Tensor, policy: Tensor) -> Tensor:
    r"""Transition matrix :math:`P_\pi` under a policy.

    Args:
        transition: CSR, shape ``(S * A, S)``.
        policy: probabilities, shape ``(S, A)``.

    Returns:
        CSR of shape ``(S, S)``. Actions of probability 0 leave no entries, so that a
        deterministic policy has as few as one row of ``transition`` a state.
    """
    states, actions = policy.shape
    starts, weight = transition.crow_indices(), policy.flatten()
    lengths = starts.diff()
    kept = weight > 0
    per_row = torch.where(kept, lengths, torch.zeros_like(lengths))
    rows = kept.nonzero()[:, 0]
    first = torch.repeat_interleave(starts[:-1][rows], lengths[rows])
    ends = per_row.cumsum(0)
    begin = torch.repeat_interleave((ends - per_row)[rows], lengths[rows])
    at = first + torch.arange(len(first), device=first.device) - begin
    entries = entries_of(transition)[at] * torch.repeat_interleave(weight[rows], lengths[rows])
    totals = torch.cat([ends.new_zeros(1), ends.view(states, actions)[:, -1]])
    return csr(totals, transition.col_indices()[at], entries, (states, states))


def keep_rows(matrix: Tensor, kept: Tensor) -> Tensor:
    """The same matrix with empty rows in place of some.

    Args:
        matrix: CSR.
        kept: truth values, one for each row.

    Returns:
        CSR of the same shape.
    """
    lengths = torch.where(kept, matrix.crow_indices().diff(), 0)
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    chosen = kept[row_of(matrix)]
    shape = (matrix.shape[0], matrix.shape[1])
    return csr(starts, matrix.col_indices()[chosen], entries_of(matrix)[chosen], shape)


def rows_of_sum_one(matrix: Tensor) -> Tensor:
    """Rows divided by their sums, in float64; empty ones stay empty.

    Args:
        matrix: CSR with entries at least 0.

    Returns:
        CSR of the same shape.
    """
    values = entries_of(matrix).to(torch.float64)
    sums = values.new_zeros(matrix.shape[0]).index_add(0, row_of(matrix), values)
    shape = (matrix.shape[0], matrix.shape[1])
    scaled = values / sums[row_of(matrix)]
    return csr(matrix.crow_indices(), matrix.col_indices(), scaled, shape)


def product(matrix: Tensor, vector: Tensor) -> Tensor:
    """A matrix times a vector, with a gradient for the entries, too.

    Args:
        matrix: CSR.
        vector: shape ``(columns,)``.

    Returns:
        Shape ``(rows,)``.
    """
    if not matrix.requires_grad:
        return matrix @ vector
    # PyTorch's own product gives its gradient the pattern of the result.
    terms = entries_of(matrix) * vector[matrix.col_indices()]
    return terms.new_zeros(matrix.shape[0]).index_add(0, row_of(matrix), terms)


def discounted_sum(
    matrix: Tensor, right: Tensor, discount: float, *, transposed: bool = False
) -> Tensor:
    r"""The solution of :math:`x = b + \gamma M x`, or of the transposed matrix; differentiable.

    Args:
        matrix: :math:`M`, CSR, square, rows of probabilities.
        right: :math:`b`, shape ``(S,)``, float64.
        discount: :math:`\gamma`, below 1.
        transposed: whether :math:`M^\top` is meant.

    Returns:
        :math:`x`, shape ``(S,)``, as :func:`certified_sum` finds it.

    Raises:
        ArithmeticError: rounding does not let the residual become small.
    """
    if matrix.requires_grad or right.requires_grad:
        arguments = entries_of(matrix), right, matrix.detach(), discount, transposed
        found: Tensor = _DiscountedSum.apply(*arguments)  # type: ignore[no-untyped-call]
        return found
    order = 1 if transposed else math.inf
    return certified_sum(transpose(matrix) if transposed else matrix, right, discount, order=order)


class _DiscountedSum(torch.autograd.Function):
    """Solutions, whose gradients are solutions with the other of the two matrices."""

    @staticmethod
    def forward(ctx, values, right, matrix, discount, transposed):  # type: ignore[no-untyped-def]
        x = discounted_sum(matrix, right.detach(), discount, transposed=transposed)
        ctx.save_for_backward(x)
        ctx.matrix, ctx.discount, ctx.transposed = matrix, discount, transposed
        return x

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        turned = discounted_sum(
            ctx.matrix, gradient.detach(), ctx.discount, transposed=not ctx.transposed
        )
        left, right = (x, turned) if ctx.transposed else (turned, x)
        rows, columns = row_of(ctx.matrix), ctx.matrix.col_indices()
        return ctx.discount * left[rows] * right[columns], turned, None, None, None


def certified_sum(
    matrix: Tensor, right: Tensor, discount: float, *, order: float = math.inf
) -> Tensor:
    r"""The solution of :math:`x = b + \gamma M x`, certified by its residual.

    Restarted GMRES (Saad and Schultz, 1986) shrinks the residual :math:`b + \gamma M x - x`; where
    it stalls, plain iteration goes on, which shrinks it by :math:`\gamma` every time. As
    :math:`\|M\| \le 1`, a residual of norm :math:`\epsilon` leaves an error of at most
    :math:`\epsilon / (1 - \gamma)`, equation ``eq-bellman-certificate``.

    Args:
        matrix: :math:`M`, CSR, square, of norm at most 1: rows that sum to 1, or the transpose.
        right: :math:`b`, shape ``(S,)``, float64.
        discount: :math:`\gamma`, below 1.
        order: the norm in which that holds: infinity for rows that sum to 1, 1 for columns.

    Returns:
        :math:`x`, shape ``(S,)``, with a residual of a few roundings of its norm.

    Raises:
        ArithmeticError: rounding does not let the residual become that small.
    """
    length = right.abs().amax()
    if not bool(length > 0):
        return torch.zeros_like(right)
    # A power of two, so that squares neither vanish nor overflow.
    size = torch.frexp(length).exponent
    x = _certified(matrix, times_power(right, -size), discount, order)
    return times_power(x, size)


def _certified(matrix: Tensor, right: Tensor, discount: float, order: float) -> Tensor:
    def residual_of(x: Tensor) -> Tensor:
        return right + discount * (matrix @ x) - x

    def small(residual: Tensor, x: Tensor) -> bool:
        limit = ROUNDINGS * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(x, order)
        return bool(torch.linalg.vector_norm(residual, order) <= limit)

    x = right / (1 - discount) if order == math.inf else right
    residual = residual_of(x)
    for _ in range(50):
        if small(residual, x):
            return x
        nearer = x + krylov_correction(matrix, residual, discount)
        following = residual_of(nearer)
        if not bool(following.norm() < 0.5 * residual.norm()):
            break
        x, residual = nearer, following
    sweeps = 2 if discount == 0 else math.ceil(math.log(1e-40) / math.log(discount)) + 2
    sweeps = min(sweeps, SWEEPS)
    for _ in range(sweeps):
        if small(residual, x):
            return x
        x = x + residual
        residual = residual_of(x)
    raise ArithmeticError(
        "discounted_sum: expected a residual of a few roundings, got "
        f"{torch.linalg.vector_norm(residual, order).item()!r}"
    )


def krylov_correction(matrix: Tensor, residual: Tensor, discount: float) -> Tensor:
    r"""The vector of a Krylov space that shrinks the residual most: one cycle of GMRES.

    Args:
        matrix: transitions :math:`P` of one policy, sparse, shape ``(S, S)``.
        residual: :math:`r`, shape ``(S,)``, not 0.
        discount: :math:`\gamma`.

    Returns:
        :math:`x` of the space of :math:`r` with the least :math:`|r - (I - \gamma P) x|`, ``(S,)``.
    """
    length = residual.norm()
    basis = residual.new_zeros(BASIS + 1, residual.shape[0])
    hessenberg = residual.new_zeros(BASIS + 1, BASIS)
    basis[0] = residual / length
    size, goal = BASIS, torch.finfo(residual.dtype).eps
    for k in range(BASIS):
        w = basis[k] - discount * (matrix @ basis[k])
        known = basis[: k + 1]
        # Twice is enough: Gram-Schmidt leaves nothing in the old directions.
        for _ in range(2):
            part = known @ w
            w = w - part @ known
            hessenberg[: k + 1, k] += part
        norm = w.norm()
        hessenberg[k + 1, k] = norm
        if float(norm) <= goal:
            size = k + 1
            break
        basis[k + 1] = w / norm
        if k % 5 == 4 and _left_over(hessenberg[: k + 2, : k + 1]) <= 1e-15:
            size = k + 1
            break
    small = hessenberg[: size + 1, :size]
    target = small.new_zeros(size + 1, 1)
    target[0] = length
    weights = torch.linalg.lstsq(small, target).solution[:, 0]
    return weights @ basis[:size]


def _left_over(hessenberg: Tensor) -> float:
    """Share of the residual that the space built so far cannot remove."""
    target = hessenberg.new_zeros(hessenberg.shape[0], 1)
    target[0] = 1
    solution = torch.linalg.lstsq(hessenberg, target).solution
    return float((target - hessenberg @ solution).norm())


def row_of(matrix: Tensor) -> Tensor:
    """Row of each entry of a CSR matrix, shape ``(n,)``.

    Args:
        matrix: CSR.

    Returns:
        Indices.
    """
    starts = matrix.crow_indices()
    return torch.repeat_interleave(
        torch.arange(matrix.shape[0], device=starts.device), starts.diff()
    )
