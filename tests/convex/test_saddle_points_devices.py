"""Saddle points on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory.convex import saddle_points as sp
from mdtheory.convex.mirror_maps import Ball, BinaryEntropy, Entropy, Euclidean
from mdtheory.convex.saddle_points import bounds
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays


def start(device, dtype):
    return tuple(numbers(device, dtype, 2, n).softmax(-1) for n in (3, 4))


def game(run):
    def case(device, dtype):
        matrix = numbers(device, dtype, 2, 3, 4)
        record = run(
            sp.matrix_operator(matrix), (Entropy(), Entropy()), start(device, dtype),
            (0.3, numbers(device, dtype, 2) ** 2 + 0.1), 4,
        )  # fmt: skip
        return *record.points, *record.average, *record.last

    return case


def weighted(order):
    def case(device, dtype):
        table = numbers(device, dtype, 5, 2)

        def operator(theta, b):
            away = (table @ theta[..., None])[..., 0] - 1
            slope = ((b * away)[..., None] * table).mean(-2)
            return slope, 0.1 - away**2 / 10

        maps = (Euclidean(Ball(2.0)), BinaryEntropy())
        begin = (numbers(device, dtype, 2) / 2, numbers(device, dtype, 5).sigmoid())
        record = sp.saddle_mirror_descent(operator, maps, begin, 0.3, 4, order)
        return *record.average, *record.last

    return case


def weights(device, dtype):
    b, first, second = (numbers(device, dtype, 4, 5 + k)[:, :5].sigmoid() for k in range(3))
    return (
        sp.weight_step(b, first, second, 3.0),
        sp.weight_regret(b, first, second),
        sp.weight_bound(first, second, 3.0),
        sp.weight_bound(first, second, 3.0, order="simultaneous"),
    )


def separating(device, dtype):
    first, second = (numbers(device, dtype, 6 + k)[:6].sigmoid() for k in range(2))
    dense = torch.arange(6, device=device) < 3
    return (sp.separating_scale(first + dense, second, dense),)


def gap(device, dtype):
    matrix = numbers(device, dtype, 2, 3, 4)
    step = numbers(device, dtype, 7) ** 2
    return (
        sp.duality_gap(matrix, *start(device, dtype)),
        *(bounds.bilinear_factor(step, name) for name in ("descent", "prox", "optimistic")),
    )


def network(device, dtype):
    net = sp.UNet(2, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    logits, latent = net(numbers(device, dtype, 2, 3, 1, 8, 12))
    return logits.detach(), latent.detach()


CASES = {
    "saddle_mirror_descent": game(sp.saddle_mirror_descent),
    "mirror_prox": game(sp.mirror_prox),
    "optimistic_mirror_prox": game(sp.optimistic_mirror_prox),
    "weights_first": weighted("ascent_first"),
    "simultaneous": weighted("simultaneous"),
    "weights": weights,
    "separating_scale": separating,
    "gap": gap,
    "network": network,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("network", "separating_scale")]
)
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_training_stays_on_its_device(device):
    generator = torch.Generator().manual_seed(2)
    images, labels = (part.to(device) for part in sp.disc_slices(2, 8, generator, size=8))
    record = sp.train_segmentation(
        images, labels, "adawac", warm_start=1, steps=2, batch=4, generator=generator
    )
    for part in record[1:]:
        assert part.device.type == device
    assert sp.segment(record.network, images).device.type == device
