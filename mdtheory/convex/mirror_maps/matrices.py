"""Mirror maps on symmetric matrices: von Neumann entropy and log-determinant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_tensor, require_values, sum_tolerance, values_known
from mdtheory.convex.mirror_maps.base import MirrorMap, inner
from mdtheory.convex.mirror_maps.exact import (
    differentiated,
    exp_excess,
    kl_parts,
    log_ratio,
    settled,
    x_log_x,
)
from mdtheory.convex.mirror_maps.quadratic import require_symmetric


class _MatrixMap(MirrorMap):
    """What the two maps on symmetric matrices share: their checks."""

    event_dims = 2

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is not symmetric and positive definite (semidefinite on the border)."""
        self.check_gradient(name, x)
        spectrum = torch.linalg.eigvalsh(x)
        if border:
            valid = spectrum >= -sum_tolerance(spectrum) * spectrum.abs().amax(-1, keepdim=True)
            require_values(name, x, valid, "positive semidefinite matrices")
        else:
            require_values(name, x, spectrum > 0, "positive definite matrices")
        return x

    def check_dual(self, name: str, theta: Tensor) -> Tensor:
        """Refuse what is not symmetric; see :meth:`MirrorMap.check_dual`."""
        return self.check_gradient(name, theta)

    def check_gradient(self, name: str, gradient: Tensor) -> Tensor:
        """Refuse what is not symmetric; see :meth:`MirrorMap.check_gradient`."""
        super().check_gradient(name, gradient)
        require_symmetric(name, gradient)
        return gradient


class VonNeumann(_MatrixMap):
    r"""Negative von Neumann entropy :math:`\operatorname{tr} X \log X` on the spectrahedron.

    The spectrahedron holds the positive semidefinite matrices of trace 1. On diagonal matrices
    the map is :class:`Entropy`. An eigenvalue that rounding has lost has no dual: over long runs
    carry the dual instead of the point.
    """

    strong_convexity = 1.0

    def norm(self, x: Tensor) -> Tensor:
        """Trace norm, the sum of the absolute eigenvalues; see :meth:`MirrorMap.norm`."""
        return torch.linalg.eigvalsh(require_tensor("x", x, 2)).abs().sum(-1)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        """Operator norm, the largest absolute eigenvalue; see :meth:`MirrorMap.dual_norm`."""
        return torch.linalg.eigvalsh(require_tensor("gradient", gradient, 2)).abs().amax(-1)

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is no density matrix; see :meth:`MirrorMap.check_point`."""
        super().check_point(name, x, border=border)
        trace = _trace(x)
        near = (trace - 1).abs() <= sum_tolerance(x)
        require_values(name, x, near, "matrices of trace 1")
        return x

    def _potential(self, x: Tensor) -> Tensor:
        # A semidefinite matrix may show eigenvalues a rounding error below 0.
        spectrum = torch.linalg.eigvalsh(x).clamp(min=0)
        return x_log_x(spectrum).sum(-1)

    def _to_dual(self, x: Tensor) -> Tensor:
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        return _spectral(x, "logarithm") + eye

    def _to_primal(self, theta: Tensor) -> Tensor:
        return _spectral(theta, "softmax")

    def _conjugate(self, theta: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(theta).logsumexp(-1)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        # to_dual(y) holds log y + 1, whence the traces.
        start, end, trace = inner(x, self._to_dual(y), 2), self._potential(x), _trace(y)
        plain = end - start + trace
        if differentiated(x, y) or settled(plain, end.abs() + start.abs() + trace):
            return plain
        # A divergence of the spectra, weighted by how far the eigenvectors agree: no part is < 0.
        own, left = torch.linalg.eigh(x)
        other, right = torch.linalg.eigh(y)
        p, q = torch.broadcast_tensors(own.clamp(min=0)[..., :, None], other[..., None, :])
        parts = kl_parts(p, q, torch.where(p > 0, log_ratio(p, q), 0.0))
        return ((left.mT @ right) ** 2 * parts).sum((-2, -1))


class LogDet(_MatrixMap):
    r"""Log-determinant :math:`\psi(X) = -\log\det X` on the positive definite matrices.

    The divergence is Stein's loss. Not every dual has a point: it must be negative definite.
    """

    strong_convexity = 0.0

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse what is not positive definite; see :meth:`MirrorMap.check_point`."""
        return super().check_point(name, x)

    def _potential(self, x: Tensor) -> Tensor:
        return -_log_det(_cholesky("x", x))

    def _to_dual(self, x: Tensor) -> Tensor:
        return -_inverse(_cholesky("x", x))

    def _to_primal(self, theta: Tensor) -> Tensor:
        return _inverse(_cholesky("theta", -theta))

    def _conjugate(self, theta: Tensor) -> Tensor:
        return -theta.shape[-1] - _log_det(_cholesky("theta", -theta))

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        # Of the eigenvalues r of the difference, seen from y, the part r - log(1 + r) is left.
        factor = _cholesky("y", y)
        if not differentiated(x, y):
            trace = _trace(torch.cholesky_solve(x, factor))
            log_det = _log_det(_cholesky("x", x)) - _log_det(factor)
            plain = trace - log_det - x.shape[-1]
            if settled(plain, trace + log_det.abs() + x.shape[-1]):
                return plain
        half = torch.linalg.solve_triangular(factor, x - y, upper=False)
        seen = torch.linalg.solve_triangular(factor, half.mT, upper=False)
        excess = torch.linalg.eigvalsh((seen + seen.mT) / 2)
        near = excess.abs() < 0.5
        ratio = torch.where(near, excess, 0.0).log1p()
        far = excess - torch.where(near, 0.0, excess).log1p()
        return torch.where(near, exp_excess(ratio), far).sum(-1)


class _Spectral(torch.autograd.Function):
    """A function of the eigenvalues, with the derivative that it has also where some agree.

    The derivative of an eigenvector is infinite there, that of the function is not: in the
    eigenbasis a direction is multiplied by differences of the function over those of eigenvalues.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kind: str) -> Tensor:
        spectrum, axes = torch.linalg.eigh(x)
        return _compose(spectrum.log() if kind == "logarithm" else spectrum.softmax(-1), axes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        x, ctx.kind = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _along(ctx.saved_tensors[0], ctx.kind, gradients[0]), None

    @staticmethod
    def jvp(ctx: Any, direction: Tensor, _: None) -> Tensor:
        return _along(ctx.saved_tensors[0], ctx.kind, direction)


def _spectral(x: Tensor, kind: str) -> Tensor:
    if not differentiated(x):
        return _Spectral.forward(x, kind)
    result: Tensor = _Spectral.apply(x, kind)  # type: ignore[no-untyped-call]
    return result


def _along(x: Tensor, kind: str, direction: Tensor) -> Tensor:
    """Derivative of a spectral function in a direction; it is its own adjoint."""
    spectrum, axes = torch.linalg.eigh(x)
    turned = axes.mT @ ((direction + direction.mT) / 2) @ axes
    rows, columns = spectrum[..., :, None], spectrum[..., None, :]
    high, low = torch.maximum(rows, columns), torch.minimum(rows, columns)
    gap = torch.where(high > low, high - low, 1.0)
    if kind == "logarithm":
        ratio = torch.where(high > low, (gap / low).log1p() / gap, 1 / high)
        return _compose_full(ratio * turned, axes)
    share = spectrum.softmax(-1)
    larger = torch.maximum(share[..., :, None], share[..., None, :])
    ratio = larger * torch.where(high > low, -(-gap).expm1() / gap, 1.0)
    mean = (share * turned.diagonal(dim1=-2, dim2=-1)).sum(-1)[..., None, None]
    return _compose_full(ratio * turned - mean * torch.diag_embed(share), axes)


def _compose_full(inside: Tensor, axes: Tensor) -> Tensor:
    product = axes @ inside @ axes.mT
    return (product + product.mT) / 2


def _compose(spectrum: Tensor, axes: Tensor) -> Tensor:
    """The symmetric matrix with these eigenvalues and eigenvectors, symmetric to the last bit."""
    product = (axes * spectrum[..., None, :]) @ axes.mT
    return (product + product.mT) / 2


def _trace(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1).sum(-1)


def _inverse(factor: Tensor) -> Tensor:
    # PyTorch's `cholesky_inverse` has a wrong derivative in forward mode.
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse = torch.cholesky_solve(eye.expand_as(factor), factor)
    return (inverse + inverse.mT) / 2


def _log_det(factor: Tensor) -> Tensor:
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _cholesky(name: str, x: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(x)
    if values_known(x) and bool((failed != 0).any()):
        raise ValueError(
            f"{name}: expected {'negative' if name == 'theta' else 'positive'} definite matrices; "
            "no finite step exists from here"
        )
    return factor
