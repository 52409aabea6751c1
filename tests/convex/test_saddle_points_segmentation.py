"""Segmentation with weights: networks side by side, arms, measures, slices."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from mdtheory.convex import saddle_points as sp
from mdtheory.convex.saddle_points import images as slices
from mdtheory.convex.saddle_points.segmentation import _view

F64 = torch.float64


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def discs(seeds=2, count=12, size=12, seed=1, share=0.4):
    return sp.disc_slices(seeds, count, chance(seed), size=size, sparse_share=share)


def train(arm, *, seed=3, **more):
    images, labels = discs()
    told = {"warm_start": 2, "steps": 6, "batch": 4, "generator": chance(seed)} | more
    return sp.train_segmentation(images, labels, arm, **told)


# Networks.


def test_networks_of_different_seeds_do_not_meet():
    net = sp.UNet(3, generator=chance())
    images = torch.randn(3, 2, 1, 8, 12, generator=chance(1))
    logits, latent = net(images)
    assert logits.shape == (3, 2, 2, 8, 12)
    assert latent.shape == (3, 2, 32, 2, 3)
    logits[1].sum().backward()
    for parameter in net.parameters():
        by_seed = parameter.grad.unflatten(0, (3, -1)).flatten(1).abs().sum(1)
        assert by_seed[0] == 0
        assert by_seed[2] == 0
    changed = images.clone()
    changed[0] += 1
    torch.testing.assert_close(net(changed)[0][1:], logits[1:])
    assert not torch.allclose(net(changed)[0][0], logits[0])


def test_one_of_the_networks_is_a_plain_unet():
    """The middle one, written with plain convolutions."""
    net = sp.UNet(3, generator=chance())
    x = torch.randn(3, 2, 1, 8, 8, generator=chance(1))
    functional = torch.nn.functional

    def part(parameter):
        return parameter.unflatten(0, (3, -1))[1]

    def block(k, value):
        layer, norm = net.blocks[k].convolution, net.blocks[k].norm
        value = functional.conv2d(value, part(layer.weight), part(layer.bias), padding=1)
        return functional.relu(functional.group_norm(value, 4, part(norm.weight), part(norm.bias)))

    def doubled(value):
        return value.repeat_interleave(2, 2).repeat_interleave(2, 3)

    first = block(0, x[1])
    second = block(1, functional.max_pool2d(first, 2))
    latent = block(2, functional.max_pool2d(second, 2))
    up = block(3, torch.cat([doubled(latent), second], 1))
    up = block(4, torch.cat([doubled(up), first], 1))
    logits = functional.conv2d(up, part(net.head.weight), part(net.head.bias))
    found = net(x)
    torch.testing.assert_close(found[0][1], logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1][1], latent, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"seeds": 0}, {"width": 6}, {"classes": 1}, {"channels": 0}])
def test_refusals_of_networks(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        sp.UNet(**({"seeds": 1, "generator": chance()} | change))


# Views.


def test_a_view_turns_images_and_labels_alike():
    """A disc stays a disc, and the bright pixels stay the labelled ones."""
    images, labels = discs(1, 30, 32, share=0.0)
    clean = 2.0 * labels[:, :, None].float()
    turned, moved = _view(clean, labels, 0.0, chance(5))
    bright = turned[:, :, 0] > 1
    apart = (bright != (moved == 1)).float().mean()
    assert apart < 0.03
    assert not torch.equal(moved, labels)
    sizes = moved.sum((-2, -1)).float() / labels.sum((-2, -1))
    assert sizes.mean() == pytest.approx(1, abs=0.15)
    again, _ = _view(clean, labels, 0.0, chance(5))
    assert torch.equal(again, turned)
    noisy, _ = _view(images, labels, 1.0, chance(5))
    assert (noisy - _view(images, labels, 0.0, chance(5))[0]).abs().mean() > 0.1


def test_an_oblong_image_is_turned_without_shear():
    """The distance of two bright points is kept."""
    images = torch.zeros(1, 200, 1, 48, 24)
    images[..., 20:23, 8:11] = 1
    images[..., 30:33, 12:15] = 1
    labels = torch.zeros(1, 200, 48, 24, dtype=torch.int64)
    labels[..., 20:23, 8:11] = 1
    labels[..., 30:33, 12:15] = 2
    moved = _view(images, labels, 0.0, chance(2))[1][0]
    far = []
    for one in moved:
        ends = [(one == k).nonzero().double().mean(0) for k in (1, 2)]
        far.append((ends[0] - ends[1]).norm())
    far = torch.stack(far)
    assert far.nanmean() == pytest.approx(math.hypot(10, 4), abs=0.3)
    assert far[~far.isnan()].std() < 0.6


# Training.


def test_the_weights_are_the_logit_sums_of_the_log():
    record = train("adawac", weight_step_size=5.0, consistency_weight=2.0)
    logits = torch.zeros(2, 12, dtype=F64)
    for drawn, first, second, used in zip(
        record.drawn, record.supervised, record.consistency, record.used, strict=True
    ):
        logits.scatter_add_(1, drawn, 5.0 * (first - second))
        torch.testing.assert_close(used, logits.gather(1, drawn).sigmoid(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(record.weights, logits.sigmoid(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sp.logged_weights(record)[-1], record.weights, rtol=1e-9, atol=0)


def test_the_order_of_the_updates():
    first = train("adawac", weight_step_size=50.0)
    after = train("adawac", weight_step_size=50.0, order="simultaneous")
    assert (after.used[0] == 0.5).all()
    assert not (first.used[0] == 0.5).any()
    torch.testing.assert_close(first.supervised[0], after.supervised[0])  # before any step
    logged = sp.logged_weights(after)
    assert logged.shape == (6, 2, 12)


@pytest.mark.theorem("thm-certificate", "bound")
@pytest.mark.parametrize("order", ["weights_first", "simultaneous"])
def test_the_certificate_of_a_network(order):
    record = train("adawac", weight_step_size=20.0, steps=12, order=order)
    regret = sp.weight_regret(record.used, record.supervised, record.consistency, record.drawn)
    bound = sp.weight_bound(record.supervised, record.consistency, 20.0, record.drawn, order=order)
    assert (regret <= bound + 1e-9).all()


def test_no_step_of_the_weights_is_the_mean_of_both_losses():
    """With eta_B = 0 the arm is consistency for all."""
    still, plain = train("adawac", weight_step_size=0.0), train("consistency")
    for ours, theirs in zip(still.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_consistency_it_becomes_both_views():
    """rho = 0 and a long step: every weight is 1 at once."""
    sure = train("adawac", consistency_weight=0.0, weight_step_size=1e4)
    assert (sure.weights > 0.99).all()
    pair = train("pair")
    for ours, theirs in zip(sure.network.parameters(), pair.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_every_arm_learns_something_else():
    ends = {}
    for arm in sp.ARMS:
        record = train(arm, steps=8, seed=4)
        assert record.supervised.isfinite().all()
        assert record.consistency.isnan().all() == (arm == "erm")
        ends[arm] = torch.cat([p.detach().flatten() for p in record.network.parameters()])
        if arm != "adawac":
            assert (record.weights == 0.5).all()
    names = list(ends)
    for k, one in enumerate(names):
        for other in names[:k]:
            assert not torch.allclose(ends[one], ends[other], atol=1e-6), (one, other)


def test_the_weights_of_reweighting_sum_to_one():
    record = train("reweight", weight_step_size=2.0)
    torch.testing.assert_close(record.used.sum(-1), torch.ones(6, 2, dtype=F64))
    big = record.supervised[0].argmax(-1)
    assert (record.used[0].argmax(-1) == big).all()


def test_the_same_seed_gives_the_same_run():
    one, two = train("adawac"), train("adawac")
    for a, b in zip(one[1:], two[1:], strict=True):
        assert torch.equal(a, b)


def test_training_learns_and_leaves_its_start_alone():
    images, labels = discs(1, 24, 16, share=0.0)
    generator = chance(7)
    first = sp.train_segmentation(
        images[0], labels[0], "pair", warm_start=0, steps=40, batch=8, learning_rate=0.02,
        noise=0.3, generator=generator,
    )  # fmt: skip
    assert first.weights.shape == (24,)
    assert first.supervised.shape == (40, 8)
    assert first.supervised[-5:].mean() < 0.6 * first.supervised[:3].mean()
    found = sp.segment(first.network, images[0]) == 1
    assert found.shape == (24, 16, 16)
    assert sp.dice(found, labels[0] == 1).nanmean() > 0.6
    kept = [p.clone() for p in first.network.parameters()]
    sp.train_segmentation(
        images[0], labels[0], "adawac", warm_start=first.network, steps=2, generator=generator
    )
    assert all(torch.equal(a, b) for a, b in zip(kept, first.network.parameters(), strict=True))
    far = sp.latent_distance(first.network, images, chance(8))
    assert far.shape == (1, 24)
    assert (far > 0).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"arm": "dro"}, ValueError, "arm"),
        ({"images": torch.ones(4, 1, 6, 8)}, ValueError, "images"),
        ({"images": torch.ones(4, 1, 8, 8).long()}, TypeError, "images"),
        ({"images": torch.ones(4, 1, 8, 8) / 0}, ValueError, "images"),
        ({"labels": torch.zeros(4, 8, 8)}, TypeError, "labels"),
        ({"labels": torch.zeros(4, 8, 4, dtype=torch.int64)}, ValueError, "labels"),
        ({"labels": torch.zeros(4, 8, 8, dtype=torch.int64) - 1}, ValueError, "labels"),
        ({"order": "first"}, ValueError, "order"),
        ({"overlap_share": 2.0}, ValueError, "overlap_share"),
        ({"consistency_weight": -1.0}, ValueError, "consistency_weight"),
        ({"weight_step_size": math.inf}, ValueError, "weight_step_size"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate"),
        ({"steps": 0}, ValueError, "steps"),
        ({"batch": 0}, ValueError, "batch"),
        ({"warm_start": -1}, ValueError, "warm_start"),
        ({"warm_start": sp.UNet(2, generator=chance())}, ValueError, "warm_start"),
    ],
)
def test_refusals_of_training(change, error, words):
    told = {
        "images": torch.ones(4, 1, 8, 8), "labels": torch.zeros(4, 8, 8, dtype=torch.int64),
        "arm": "pair", "warm_start": 0, "steps": 1, "generator": chance(),
    } | change  # fmt: skip
    with pytest.raises(error, match=words):
        sp.train_segmentation(told.pop("images"), told.pop("labels"), told.pop("arm"), **told)


# Measures.


def test_overlap():
    p = torch.tensor([[1, 1, 0], [0, 0, 0]], dtype=torch.bool)
    q = torch.tensor([[0, 1, 1], [0, 1, 0]], dtype=torch.bool)
    assert sp.dice(p, q).item() == pytest.approx(2 / 5)
    assert sp.dice(p, p) == 1
    assert sp.dice(p, torch.zeros_like(p)) == 0
    assert sp.dice(torch.zeros_like(p), torch.zeros_like(p)).isnan()
    assert sp.dice(torch.stack([p, q]), torch.stack([q, q])).shape == (2,)


def test_hausdorff_against_a_loop():
    generator = chance(11)
    p, q = torch.rand(2, 20, 7, 9, generator=generator) < 0.3
    found = sp.hausdorff95(p, q)
    for k in range(20):
        edges = []
        for mask in (p[k].numpy(), q[k].numpy()):
            rows = []
            for i, j in np.argwhere(mask):
                near = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
                inside = all(0 <= a < 7 and 0 <= b < 9 and mask[a, b] for a, b in near)
                if not inside:
                    rows.append((i, j))
            edges.append(rows)
        far = [min(math.dist(a, b) for b in edges[1]) for a in edges[0]]
        far += [min(math.dist(a, b) for b in edges[0]) for a in edges[1]]
        assert found[k].item() == pytest.approx(np.percentile(far, 95))
    nothing = torch.zeros(7, 9, dtype=torch.bool)
    assert sp.hausdorff95(nothing, nothing).isnan()
    assert sp.hausdorff95(nothing, q[0]).item() == pytest.approx(math.hypot(7, 9))
    assert sp.hausdorff95(p[:4].reshape(2, 2, 7, 9), q[:4].reshape(2, 2, 7, 9)).shape == (2, 2)


def test_ranking():
    scores = torch.tensor([3.0, 1.0, 2.0, 1.0])
    positive = torch.tensor([True, False, True, True])
    assert sp.ranking(scores, positive).item() == pytest.approx(2.5 / 3)
    with pytest.raises(ValueError, match="positive"):
        sp.ranking(scores, torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="scores"):
        sp.ranking(scores[:2], positive)
    with pytest.raises(TypeError, match="positive"):
        sp.ranking(scores, scores)


@pytest.mark.parametrize("measure", [sp.dice, sp.hausdorff95])
def test_refusals_of_measures(measure):
    mask = torch.ones(3, 4, dtype=torch.bool)
    with pytest.raises(TypeError, match="truth"):
        measure(mask, mask.float())
    with pytest.raises(ValueError, match="predicted"):
        measure(mask[:2], mask)
    with pytest.raises(ValueError, match="predicted"):
        measure(mask[0], mask[0])


def test_refusal_of_other_images():
    net = sp.UNet(2, generator=chance())
    with pytest.raises(ValueError, match="images"):
        sp.segment(net, torch.ones(3, 1, 8, 8))
    assert sp.segment(net, torch.ones(2, 3, 1, 8, 8)).shape == (2, 3, 8, 8)


# Slices.


def test_discs():
    images, labels = discs(2, 200, 20)
    assert images.shape == (2, 200, 1, 20, 20)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    dense = labels.flatten(2).any(2)
    assert dense.float().mean() == pytest.approx(0.6, abs=0.08)
    bright = images[:, :, 0][labels == 1]
    assert bright.mean() == pytest.approx(0.9, abs=0.05)
    sparse = images[:, :, 0][~dense]
    assert (sparse < -0.5).flatten(1).any(1).all()  # dark discs everywhere
    assert torch.equal(discs(2, 200, 20).images, images)
    assert discs(share=0.0).labels.flatten(2).any(2).all()
    assert not discs(share=1.0).labels.any()
    for change in ({"size": 10}, {"sparse_share": 1.5}, {"count": 0}, {"seeds": 0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            sp.disc_slices(**({"seeds": 1, "count": 2, "generator": chance()} | change))


def fake_wheel(tmp_path, monkeypatch):
    """Volumes of the right shape, without a brain."""
    import gzip

    folder = tmp_path / "nilearn" / "datasets" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "nilearn" / "__init__.py").touch()
    y = np.arange(233, dtype=np.uint8)[None, :, None]
    for kind, values in (("t1", y), ("gm", np.uint8(200))):
        volume = np.broadcast_to(values, slices.SHAPE)
        raw = bytes(slices.HEADER) + volume.tobytes(order="F")
        name = f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        (folder / name).write_bytes(gzip.compress(raw, 1))
    monkeypatch.syspath_prepend(tmp_path)
    slices._template.cache_clear()


def test_blocks_do_not_touch(tmp_path, monkeypatch):
    """On made-up volumes of the right shape."""
    fake_wheel(tmp_path, monkeypatch)
    try:
        for test in (False, True):
            images, labels = sp.brain_slices(1, 300, chance(), test=test, pixel=6)
            assert images.shape == (1, 300, 1, 16, 32)
            dense = labels.flatten(2).any(2)[0]
            assert dense.float().mean() == pytest.approx(0.5, abs=0.1)
        planes = slices._template(6)
        assert planes.shape == (2, 233, 16, 32)
        deep = planes[1].flatten(1).amax(1) > 0.5
        where = deep.nonzero()[:, 0] - 134
        assert (where.min(), where.max()) == (-36, 23)
    finally:
        slices._template.cache_clear()
    y = torch.arange(slices.FIRST_Y, slices.LAST_Y)
    phase = (y - slices.FIRST_Y) % slices.BLOCK
    train = y[(phase >= slices.TRAIN[0]) & (phase < slices.TRAIN[1])]
    test = y[(phase >= slices.TEST[0]) & (phase < slices.TEST[1])]
    assert (train[:, None] - test).abs().min() == 5  # four millimetres between them
    # The ends of the target lie in gaps.
    for end in (-36, 23):
        assert not bool((torch.cat([train, test]) == end).any())


def test_without_the_wheel(monkeypatch):
    monkeypatch.setattr(slices, "find_spec", lambda name: None)
    slices._template.cache_clear()
    with pytest.raises(ImportError, match=r"mdtheory\[images\]"):
        sp.brain_slices(1, 2, chance())
    with pytest.raises(ValueError, match="pixel"):
        sp.brain_slices(1, 2, chance(), pixel=5)


@pytest.mark.skipif(find_spec("nilearn") is None, reason="needs the extra images")
def test_brain_slices():
    slices._template.cache_clear()
    images, labels = sp.brain_slices(2, 60, chance(), pixel=6)
    assert images.isfinite().all()
    dense = labels.flatten(2).any(2)
    share = labels.double().mean((-2, -1))
    assert dense.float().mean() == pytest.approx(0.5, abs=0.12)
    assert 0.01 < share[dense].mean() < 0.08
    brain = (images[:, :, 0] > 0.5).double().mean((-2, -1))
    assert brain[~dense].min() > 0.05  # slices without target are full of brain
    # The template is symmetric: a left-right split would leak.
    t1 = slices._volume("t1")
    middle = t1[1:196]
    assert torch.equal(middle, middle.flip(0))
