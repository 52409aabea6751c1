"""Every mirror map with what the tests know about it independently of the library.

Points are drawn and potentials written here without calling ``mdtheory``, so that a mistake in a
map cannot hide in the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from mdtheory.convex import mirror_maps as mm

D = 5  # coordinates of vectors
M = 3  # rows of matrices


def _mahalanobis_matrix(d: int = D) -> Tensor:
    root = torch.randn(d, d, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return root @ root.T / d + 0.3 * torch.eye(d, dtype=torch.float64)


A = _mahalanobis_matrix()


def _normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _uniform(generator, *shape):
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def free(n, generator):
    return 2 * _normal(generator, n, D)


def ball(n, generator):
    x = _normal(generator, n, D)
    return x / x.norm(dim=-1, keepdim=True) * _uniform(generator, n, 1) ** (1 / D)


def box(n, generator):
    return 2 * _uniform(generator, n, D) - 1


def simplex(n, generator):
    """Between uniform and far out in the corners."""
    weights = -(_uniform(generator, n, D).log() ** 3)
    return weights / weights.sum(-1, keepdim=True)


def face(n, generator):
    """Simplex points with two zeros."""
    x = simplex(n, generator)
    x[:, :2] = 0
    return x / x.sum(-1, keepdim=True)


def orthant(n, generator):
    return _normal(generator, n, D).exp()


def unit_box(n, generator):
    return _uniform(generator, n, D) * 0.998 + 0.001


def _rotation(n, generator):
    return torch.linalg.qr(_normal(generator, n, M, M)).Q


def _with_spectrum(spectrum, generator):
    axes = _rotation(spectrum.shape[0], generator)
    x = axes @ torch.diag_embed(spectrum) @ axes.mT
    return (x + x.mT) / 2


def spectrahedron(n, generator):
    weights = -_uniform(generator, n, M).log() + 0.02
    return _with_spectrum(weights / weights.sum(-1, keepdim=True), generator)


def positive_definite(n, generator):
    return _with_spectrum(0.2 + 2 * _uniform(generator, n, M), generator)


def _no_change(x):
    return x


def _vector_direction(n, generator):
    return _normal(generator, n, D)


def _matrix_direction(n, generator):
    g = _normal(generator, n, M, M)
    return (g + g.mT) / 2


def _xlogx(x):
    return torch.special.xlogy(x, x)


def _trace_of(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(torch.linalg.eigvalsh(x)).sum(-1)


def _spectral_gradient(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Matrix functions by an eigendecomposition of their own, in place of autograd's."""

    def gradient(x):
        spectrum, axes = torch.linalg.eigh(x)
        return axes @ torch.diag_embed(function(spectrum)) @ axes.mT

    return gradient


def _sum_zero(v):
    """Displacements within the simplex."""
    return v - v.mean(-1, keepdim=True)


def _trace_zero(v):
    trace = v.diagonal(dim1=-2, dim2=-1).mean(-1)
    return v - trace[..., None, None] * torch.eye(M, dtype=v.dtype)


def _l1_direction(g):
    at = g.abs().argmax(-1, keepdim=True)
    return torch.zeros_like(g).scatter(-1, at, g.gather(-1, at).sign())


def _trace_direction(g):
    spectrum, axes = torch.linalg.eigh(g)
    return axes @ torch.diag_embed(_l1_direction(spectrum)) @ axes.mT


@dataclass
class Case:
    """A map, and its facts."""

    name: str
    mirror_map: mm.MirrorMap
    draw: Callable[[int, torch.Generator], Tensor]  # points with a gradient
    psi: Callable[[Tensor], Tensor]
    atom: str  # the name of the potential in cvxpy, see test_mirror_maps_steps
    domain: str  # likewise the set
    gradient_by: Callable[[Tensor], Tensor] | None = None
    border: Callable[[int, torch.Generator], Tensor] | None = None
    tangent: Callable[[Tensor], Tensor] = _no_change
    best_direction: Callable[[Tensor], Tensor] = _no_change  # attains the dual norm
    steep: bool = True
    gradient_scale: float = 1.0
    event_dims: int = field(init=False)

    def __post_init__(self):
        self.event_dims = self.mirror_map.event_dims

    @property
    def tolerance(self) -> float:
        return 1e-12 if self.event_dims == 1 else 1e-9

    @property
    def point_tolerance(self) -> float:
        """For points that were found from their duals.

        Tsallis with q > 2 is not strongly convex: near a border point a dual's last digit moves
        the point by the root of that digit.
        """
        return 1e-7 if self.name == "tsallis-three" else 10 * self.tolerance

    @property
    def attainable(self) -> bool:
        """Whether every dual has a point."""
        return self.atom != "log_det"

    def gradient(self, x: Tensor) -> Tensor:
        """The dual of x by the tests' own potential."""
        if self.gradient_by is not None:
            return self.gradient_by(x)
        x = x.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.psi(x).sum(), x)
        return gradient

    def divergence(self, x: Tensor, y: Tensor) -> Tensor:
        return self.psi(x) - self.psi(y) - self.inner(self.gradient(y), x - y)

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        return (left * right).flatten(left.ndim - self.event_dims).sum(-1)

    def direction(self, n: int, generator: torch.Generator) -> Tensor:
        """A gradient."""
        draw = _vector_direction if self.event_dims == 1 else _matrix_direction
        return self.gradient_scale * draw(n, generator)

    def dual(self, n: int, generator: torch.Generator) -> Tensor:
        """A dual that is not the gradient at a point of the domain, where there are such."""
        if self.attainable:
            return 2 * self.direction(n, generator)
        return -positive_definite(n, generator)

    def per_point(self, values: Tensor) -> Tensor:
        """Numbers of shape (n,) so that they multiply points."""
        return values.reshape(values.shape + (1,) * self.event_dims)

    def comparators(self, n: int, generator: torch.Generator) -> Tensor:
        """Points of the domain, those on its border included where the potential is finite."""
        inside = self.draw(n - n // 2, generator)
        return torch.cat([inside, (self.border or self.draw)(n // 2, generator)])


def _corners_of_spectrahedron(n, generator):
    axes = _rotation(n, generator)[..., :1]
    return axes @ axes.mT


def _sphere(n, generator):
    x = _normal(generator, n, D)
    return x / x.norm(dim=-1, keepdim=True)


def _half(x):
    return (x * x).sum(-1) / 2


def _tsallis(q):
    return lambda x: ((x**q).sum(-1) - 1) / (q - 1)


def _tsallis_gradient(q):
    return lambda x: q / (q - 1) * x ** (q - 1)


CASES = [
    Case("euclidean", mm.Euclidean(), free, _half, "half_square", "free"),
    Case(
        "euclidean-ball", mm.Euclidean(mm.Ball(1.0)), ball, _half, "half_square", "ball",
        border=_sphere, steep=False,
    ),
    Case(
        "euclidean-box", mm.Euclidean(mm.Box(-1.0, 1.0)), box, _half, "half_square", "box",
        border=lambda n, g: box(n, g).sign(), steep=False,
    ),
    Case(
        "euclidean-simplex", mm.Euclidean(mm.Simplex()), simplex, _half, "half_square", "simplex",
        border=face, steep=False, tangent=_sum_zero,
    ),
    Case(
        "mahalanobis", mm.Mahalanobis(A), free, lambda x: _half_form(x), "half_form", "free",
        best_direction=lambda g: torch.linalg.solve(A, g[..., None])[..., 0],
    ),
    Case(
        "mahalanobis-ball", mm.Mahalanobis(A, mm.Ball(1.0)), ball, lambda x: _half_form(x),
        "half_form", "ball", border=_sphere, steep=False,
        best_direction=lambda g: torch.linalg.solve(A, g[..., None])[..., 0],
    ),
    Case(
        "p-norm", mm.PNorm(1.5), free,
        lambda x: (x.abs() ** 1.5).sum(-1) ** (2 / 1.5) / 2, "p_norm", "free",
        best_direction=lambda g: g.sign() * g.abs() ** 2,
    ),
    Case(
        "entropy", mm.Entropy(), simplex, lambda x: _xlogx(x).sum(-1), "entropy", "simplex",
        gradient_by=lambda x: 1 + x.log(), border=face, tangent=_sum_zero,
        best_direction=_l1_direction,
    ),
    Case(
        "positive-entropy", mm.PositiveEntropy(), orthant, lambda x: _xlogx(x).sum(-1), "entropy",
        "orthant", gradient_by=lambda x: 1 + x.log(), border=lambda n, g: 3 * face(n, g),
    ),
    Case(
        "binary-entropy", mm.BinaryEntropy(), unit_box,
        lambda x: (_xlogx(x) + _xlogx(1 - x)).sum(-1), "binary_entropy", "unit_box",
        gradient_by=torch.logit, border=lambda n, g: unit_box(n, g).round(),
    ),
    Case(
        "log-barrier", mm.LogBarrier(), simplex, lambda x: -x.log().sum(-1), "log_barrier",
        "simplex", tangent=_sum_zero, gradient_scale=3.0,
    ),
    Case(
        "tsallis-half", mm.Tsallis(0.5), simplex, _tsallis(0.5), "tsallis 0.5", "simplex",
        gradient_by=_tsallis_gradient(0.5), border=face, tangent=_sum_zero,
    ),
    Case(
        "tsallis-three-halves", mm.Tsallis(1.5), simplex, _tsallis(1.5), "tsallis 1.5", "simplex",
        gradient_by=_tsallis_gradient(1.5), border=face, tangent=_sum_zero, steep=False,
    ),
    Case(
        "tsallis-three", mm.Tsallis(3.0), simplex, _tsallis(3.0), "tsallis 3", "simplex",
        gradient_by=_tsallis_gradient(3.0), border=face, tangent=_sum_zero, steep=False,
    ),
    Case(
        "von-neumann", mm.VonNeumann(), spectrahedron,
        _trace_of(lambda s: _xlogx(s.clamp(min=0))), "von_neumann", "spectrahedron",
        gradient_by=_spectral_gradient(lambda s: 1 + s.log()), tangent=_trace_zero,
        border=_corners_of_spectrahedron, best_direction=_trace_direction,
    ),
    Case(
        "log-det", mm.LogDet(), positive_definite, lambda x: -torch.logdet(x), "log_det",
        "positive_definite", gradient_by=lambda x: -torch.linalg.inv(x), gradient_scale=0.05,
    ),
]  # fmt: skip


def _half_form(x):
    return torch.einsum("...i,ij,...j->...", x, A, x) / 2


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request) -> Case:
    """Every map in turn."""
    return request.param


@pytest.fixture
def cases() -> dict[str, Case]:
    """All maps by name."""
    return {case.name: case for case in CASES}


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


@pytest.fixture
def close() -> Callable[..., None]:
    """Equality relative to the largest of the terms that went into the two sides."""

    def assert_close(left, right, terms=(), tolerance=1e-12):
        scale = torch.stack([t.abs().broadcast_to(left.shape) for t in (left, right, *terms)])
        error = (left - right).abs() / scale.amax(0).clamp(min=math.ulp(0))
        error = torch.where(left == right, torch.zeros_like(error), error)
        assert (error <= tolerance).all(), f"largest relative difference {error.max().item():.2e}"

    return assert_close
