"""Every public function on every device: results as on the CPU in float64, nothing left behind.

Each entry of ``CASES`` is a function of a device that computes with tensors placed there and
returns one tensor or several. It runs

- on the CPU and on every GPU that is present, and must agree with the CPU in float64;
- in float32 there, and must agree to single precision;
- under fake tensors on another device, where a tensor that was made on the CPU raises: so a
  forgotten ``device=`` shows up on a machine without a GPU, too.

That device is the fixture ``elsewhere`` of ``conftest.py``.

A new module adds its cases to the table. A learner is run for a few rounds.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdtheory import runs
from mdtheory.convex import mirror_maps as mm

DEVICES = ["cpu"] + [f"cuda:{k}" for k in range(torch.cuda.device_count())]


class Place:
    """Where a case lives: its inputs are made on the CPU in float64, then moved once."""

    def __init__(self, device: str, dtype: torch.dtype, fake: bool = False):
        self.device, self.dtype, self.fake = torch.device(device), dtype, fake
        self.generator = torch.Generator().manual_seed(5)

    def put(self, value: torch.Tensor) -> torch.Tensor:
        if self.fake:
            return torch.empty(value.shape, dtype=self.dtype, device=self.device)
        return value.to(self.device, self.dtype)

    def normal(self, *shape: int) -> torch.Tensor:
        return self.put(self._draw(*shape))

    def simplex(self, *shape: int) -> torch.Tensor:
        return self.put(self._draw(*shape).softmax(-1))

    def between(self, *shape: int, low: float = 0.05, high: float = 0.95) -> torch.Tensor:
        return self.put(low + (high - low) * self._draw(*shape).sigmoid())

    def symmetric(self, *shape: int) -> torch.Tensor:
        x = self._draw(*shape, shape[-1])
        return self.put((x + x.mT) / 4)

    def positive_definite(self, *shape: int, trace_one: bool = False) -> torch.Tensor:
        x = self._draw(*shape, shape[-1])
        x = x @ x.mT / shape[-1] + 0.5 * torch.eye(shape[-1], dtype=torch.float64)
        if trace_one:
            x = x / x.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        return self.put(x)

    def _draw(self, *shape: int) -> torch.Tensor:
        if self.fake:
            return _real_zeros(shape)
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def _real_zeros(shape):
    """On the CPU, and fake like all else: only its shape is used."""
    return torch.zeros(*shape, dtype=torch.float64)


def vector_map(make, draw):
    """All methods of a map on vectors, and its steps."""

    def case(place):
        mirror_map = make(place)
        x, y, g = draw(place), draw(place), place.normal(4, 5)
        eta = place.between(4)
        dual = mirror_map.to_dual(x)
        return (
            mirror_map.potential(x), dual, mirror_map.to_primal(dual - g / 2),
            mirror_map.conjugate(dual - g / 2), mirror_map.divergence(x, y),
            mirror_map.norm(g), mirror_map.dual_norm(g),
            mm.dual_step(dual, g, eta[..., None], mirror_map.to_dual(y), 0.5),
            mm.mirror_step(mirror_map, x, g, 0.3), mm.mirror_step(mirror_map, x, g, eta, y, eta),
            mm.mirror_step(mirror_map, x, g, math.inf, y, eta),
        )  # fmt: skip

    return case


def matrix_map(make, draw):
    def case(place):
        mirror_map = make(place)
        x, y, g = draw(place), draw(place), place.symmetric(4, 3) / 4
        eta = place.between(4)
        dual = mirror_map.to_dual(x)
        return (
            mirror_map.potential(x), dual, mirror_map.to_primal(dual),
            mirror_map.conjugate(dual), mirror_map.divergence(x, y),
            mirror_map.norm(g), mirror_map.dual_norm(g),
            mm.mirror_step(mirror_map, x, g, 0.3), mm.mirror_step(mirror_map, x, g, eta, y, 0.5),
        )  # fmt: skip

    return case


def laws(place):
    """The simplex in logarithms."""
    log_p, log_q = place.simplex(4, 5).log(), place.simplex(4, 5).log()
    mm.require_log_probabilities("log_p", log_p, log_q, full_support=True)
    weight = place.between(4, 1)
    return (
        mm.kl_terms(log_p, log_q), mm.kl(log_p, log_q), mm.span(log_p - log_q),
        mm.mixture(log_p, log_q, 0.3), mm.mixture(log_p, log_q, weight),
        mm.entropy_step(log_p, place.normal(4, 5), weight, log_q, 0.5),
    )  # fmt: skip


def domain(make):
    def case(place):
        here, v = make(place), 2 * place.normal(4, 5)
        return here.project(v), here.minimize_linear(v), here.contains(here.project(v))

    return case


def ball(place):
    return place.between(4, 5) / 3


def simplex(place):
    return place.simplex(4, 5)


def free(place):
    return place.normal(4, 5)


def logs(place):
    """Steps, divergences and mixtures of laws, by their logarithms and by themselves."""
    x, y, g = place.simplex(4, 5), place.simplex(4, 5), place.normal(4, 5)
    p, q, weight = x.log(), y.log(), place.between(4, 1)
    if not place.fake:
        mm.require_log_probabilities("p", p)
    return (
        mm.entropy_step(p, g, weight, q, 0.5), mm.entropy_step(p, g, math.inf, q, 0.5),
        mm.kl(p, q), mm.kl_terms(p, q), mm.mixture(p, q, weight), mm.span(g),
        mm.log_q(x, 1.5), mm.log_q_of_log(p, 0.5), mm.bregman_map(1.3).divergence(x, y),
        mm.tsallis_divergence(x, y, 0.3), mm.tsallis_divergence(x, y, 1.0),
        mm.tsallis_divergence(x, y, 1 + 1e-9), mm.tsallis_divergence(x, y, 2.5),
    )  # fmt: skip


def metric(place):
    return place.positive_definite(5)


CASES = {
    "laws": laws,
    "Ball": domain(lambda place: mm.Ball(1.0)),
    "Box": domain(lambda place: mm.Box(-1.0, 1.0)),
    "Box of tensors": domain(
        lambda place: mm.Box(-place.between(5), place.between(5))
    ),
    "Simplex": domain(lambda place: mm.Simplex()),
    "Euclidean": vector_map(lambda place: mm.Euclidean(), free),
    "Euclidean(Ball)": vector_map(lambda place: mm.Euclidean(mm.Ball(1.0)), ball),
    "Euclidean(Box)": vector_map(lambda place: mm.Euclidean(mm.Box(0.0, 1.0)), ball),
    "Euclidean(Simplex)": vector_map(lambda place: mm.Euclidean(mm.Simplex()), simplex),
    "Mahalanobis": vector_map(lambda place: mm.Mahalanobis(metric(place)), free),
    "Mahalanobis(Ball)": vector_map(
        lambda place: mm.Mahalanobis(metric(place), mm.Ball(1.0)), ball
    ),
    "PNorm": vector_map(lambda place: mm.PNorm(1.5), free),
    "Entropy": vector_map(lambda place: mm.Entropy(), simplex),
    "PositiveEntropy": vector_map(lambda place: mm.PositiveEntropy(), ball),
    "BinaryEntropy": vector_map(lambda place: mm.BinaryEntropy(), ball),
    "LogBarrier": vector_map(lambda place: mm.LogBarrier(), simplex),
    "Tsallis(0.5)": vector_map(lambda place: mm.Tsallis(0.5), simplex),
    "Tsallis(1.5)": vector_map(lambda place: mm.Tsallis(1.5), simplex),
    "Tsallis(3)": vector_map(lambda place: mm.Tsallis(3.0), simplex),
    "VonNeumann": matrix_map(
        lambda place: mm.VonNeumann(),
        lambda place: place.positive_definite(4, 3, trace_one=True),
    ),
    "LogDet": matrix_map(
        lambda place: mm.LogDet(), lambda place: place.positive_definite(4, 3)
    ),
    "the simplex in logarithms": logs,
}  # fmt: skip


# Modules with loops that cannot stop early where no value can be read.
ITERATIVE = [mm.domains, mm.quadratic, mm.tsallis]


def run(name, place):
    result = CASES[name](place)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    place = Place(device, dtype)
    exact = run(name, Place("cpu", torch.float64))
    for ours, theirs in zip(run(name, place), exact, strict=True):
        assert ours.device == place.device
        if theirs.dtype == torch.bool:
            assert torch.equal(ours.cpu(), theirs)
            continue
        assert ours.dtype == dtype
        tolerance = 1e-9 if dtype == torch.float64 else 2e-3
        torch.testing.assert_close(ours.cpu().double(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_nothing_is_left_on_another_device(name, dtype, elsewhere, monkeypatch):
    """With fake tensors, mixing devices raises; no value can be read either."""
    for module in ITERATIVE:  # iterations all run the same lines: two of them are enough
        monkeypatch.setattr(module, "range", lambda n: range(min(n, 2)), raising=False)
    with FakeTensorMode():
        for result in run(name, Place(elsewhere, dtype, fake=True)):
            assert result.device.type == elsewhere
            assert result.dtype in (dtype, torch.bool)


def test_fake_tensors_do_find_a_forgotten_device(elsewhere):
    """The mutant of the test above."""

    def forgetful(place):
        return place.normal(3) + torch.ones(3)

    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        forgetful(Place(elsewhere, torch.float32, fake=True))


def test_every_public_name_of_the_mirror_maps_has_a_case():
    """A map or a domain that is added must be added to the table, too."""
    covered = {name.partition("(")[0].partition(" ")[0] for name in CASES}
    public = set(mm.__all__) - {"MirrorMap", "Domain"}
    functions = {"dual_step", "mirror_step"}  # called by every map's case
    functions |= set(logs.__code__.co_names)
    assert public - functions <= covered


@pytest.mark.parametrize("device", DEVICES)
def test_checks_and_intervals_take_tensors_of_any_device(device):
    left = torch.ones(5, device=device)
    assert runs.check_bound("thm-x", left, 2 * left) == 0.5
    assert runs.check_identity("thm-x", left, left) == 0
    generator = torch.Generator(device).manual_seed(0)
    for value in runs.bootstrap_interval(left, generator, resamples=10):
        assert value.item() == 1
        assert value.device == left.device
