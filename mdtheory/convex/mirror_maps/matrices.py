"""Mirror maps on symmetric matrices: von Neumann entropy and log-determinant."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_values, sum_tolerance, values_known
from mdtheory.convex.mirror_maps.base import MirrorMap, inner
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
        return torch.linalg.eigvalsh(x).abs().sum(-1)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        """Operator norm, the largest absolute eigenvalue; see :meth:`MirrorMap.dual_norm`."""
        return torch.linalg.eigvalsh(gradient).abs().amax(-1)

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
        return torch.xlogy(spectrum, spectrum).sum(-1)

    def _to_dual(self, x: Tensor) -> Tensor:
        spectrum, axes = torch.linalg.eigh(x)
        return _compose(1 + spectrum.log(), axes)

    def _to_primal(self, theta: Tensor) -> Tensor:
        spectrum, axes = torch.linalg.eigh(theta)
        return _compose(spectrum.softmax(-1), axes)

    def _conjugate(self, theta: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(theta).logsumexp(-1)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        # to_dual(y) holds log y + 1, whence the traces.
        return self._potential(x) - inner(x, self._to_dual(y), 2) + _trace(y)


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
        return -torch.cholesky_inverse(_cholesky("x", x))

    def _to_primal(self, theta: Tensor) -> Tensor:
        factor = _cholesky("theta", -theta)
        return torch.cholesky_inverse(factor)

    def _conjugate(self, theta: Tensor) -> Tensor:
        return -theta.shape[-1] - _log_det(_cholesky("theta", -theta))

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        whitened = torch.cholesky_solve(x, _cholesky("y", y))
        log_det = _log_det(_cholesky("x", x)) - _log_det(_cholesky("y", y))
        return _trace(whitened) - log_det - x.shape[-1]


def _compose(spectrum: Tensor, axes: Tensor) -> Tensor:
    """The symmetric matrix with these eigenvalues and eigenvectors, symmetric to the last bit."""
    product = (axes * spectrum[..., None, :]) @ axes.mT
    return (product + product.mT) / 2


def _trace(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1).sum(-1)


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
