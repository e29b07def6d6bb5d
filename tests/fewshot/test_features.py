"""The feature store: every image once, and the same features whatever shares its batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from episodes import EpisodeReader
from fewshot.backbones import build_backbone
from fewshot.features import BATCH_SIZE, FeatureStore, Shelf, embed_batch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reader(miniature):
    return EpisodeReader(miniature, "dtd", "test", size=32)


@pytest.fixture(scope="module")
def backbones():
    return [build_backbone(name, 3, 0).eval() for name in ("resnet18", "efficientnet_b0")]


def new_store(reader, backbones, stages=False):
    return FeatureStore(reader.images, backbones, stages=stages, device=CPU)


@pytest.mark.parametrize("stages", [False, True])
def test_features_are_those_of_the_backbones(reader, backbones, stages):
    store, plan = new_store(reader, backbones, stages), reader.plan(0)
    store.embed([plan])
    images = reader.read(plan).query_images[:BATCH_SIZE]
    found = store.look_up(plan.query_class_ids, plan.query_images)
    with torch.inference_mode():
        stage_lists = [backbone.stages(images) for backbone in backbones]
    expected = [s for one in stage_lists for s in (one if stages else one[-1:])]
    assert len(found) == len(expected) == (8 if stages else 2)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours[: len(theirs)], theirs, rtol=1e-4, atol=1e-5)


def test_an_images_features_do_not_depend_on_its_batch(backbones):
    images = torch.rand(40, 3, 32, 32)
    whole = embed_batch(backbones[0], images, CPU)[-1]
    alone = embed_batch(backbones[0], images[7:8], CPU)[-1]
    assert torch.equal(whole[7:8], alone)


def test_each_image_is_embedded_once(reader, backbones, monkeypatch):
    read = []
    original = type(reader.images).read

    def counting(self, class_ids, numbers):
        read.extend(zip(class_ids.tolist(), numbers.tolist(), strict=True))
        return original(self, class_ids, numbers)

    monkeypatch.setattr(type(reader.images), "read", counting)
    store, plans = new_store(reader, backbones[:1]), [reader.plan(i) for i in range(6)]
    store.embed(plans[:3])
    store.embed(plans)
    assert len(read) == len(set(read))
    used = {
        pair
        for plan in plans
        for pair in [
            *zip(plan.support_class_ids.tolist(), plan.support_images.tolist(), strict=True),
            *zip(plan.query_class_ids.tolist(), plan.query_images.tolist(), strict=True),
        ]
    }
    assert set(read) == used


def test_looking_up_what_was_not_embedded(reader, backbones):
    with pytest.raises(KeyError, match="embed"):
        new_store(reader, backbones).look_up(np.asarray([18]), np.asarray([0]))


def test_progress_counts_images(reader, backbones):
    calls = []
    store = new_store(reader, backbones[:1])
    store.embed([reader.plan(0)], lambda *numbers: calls.append(numbers))
    total = calls[0][1]
    assert calls[-1] == (total, total) and [done for done, _ in calls] == sorted(
        {done for done, _ in calls}
    )


def test_census_counts_uses_images_and_what_is_missing(reader, backbones):
    store, plans = new_store(reader, backbones[:1]), [reader.plan(i) for i in range(4)]
    uses = sum(len(plan.support_labels) + len(plan.query_labels) for plan in plans)
    before = store.census(plans)
    assert before.in_episodes == uses and before.missing == before.different < uses
    store.embed(plans[:2])
    after = store.census(plans)
    assert after[:2] == before[:2] and 0 < after.missing < before.missing
    assert store.census(plans[:2]).missing == 0


def test_features_outlive_the_store_on_a_shelf(reader, backbones, tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, backbones=["a", "b"], images={"dtd": "x"}, device="cpu")
    build = lambda shelf: FeatureStore(  # noqa: E731
        reader.images, backbones, stages=False, device=CPU, shelf=shelf
    )
    store, plan = build(shelf), reader.plan(0)
    store.embed([plan])
    first = store.look_up(plan.query_class_ids, plan.query_images)
    store.close()
    monkeypatch.setattr(type(reader.images), "read", lambda *a: pytest.fail("an image was read"))
    again = build(shelf)
    again.embed([plan])
    for old, new in zip(first, again.look_up(plan.query_class_ids, plan.query_images), strict=True):
        assert torch.equal(old, new)
    for change in ({"backbones": ["a", "c"]}, {"images": {"dtd": "y"}}, {"device": "gpu"}):
        assert build(replace(shelf, **change)).census([plan]).missing > 0


def test_half_precision_is_what_heads_see(reader, backbones, tmp_path):
    plan = reader.plan(0)
    stores = [
        FeatureStore(reader.images, backbones[:1], stages=False, device=CPU, shelf=Shelf(None, t))
        for t in ("float32", "float16")
    ]
    for store in stores:
        store.embed([plan])
    [full], [half] = (s.look_up(plan.query_class_ids, plan.query_images) for s in stores)
    assert torch.equal(full.half().float(), half) and not torch.equal(full, half)
