"""CrossTransformers against a slow transcription, and SimCLR episodes."""

import math

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from baselines.ctx import dilate_last_stage
from baselines.simclr import instances, views
from baselines.table import build_method
from baselines.training import Episodic
from episodes.faults import InputError
from fewshot.backbones import build_backbone
from tests.baselines.contract import make_task, network
from tests.baselines.given import GivenMaps


def test_scores_are_those_of_the_paper_written_out_place_by_place():
    """Doersch et al. 2020, section 3.2, with loops; maps of 2 × 3 places, unequal shots."""
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(4, 3, 2, 3, generator=generator, dtype=torch.float64)
    query = torch.randn(2, 3, 2, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([1, 0, 1, 1])
    learner = build_method("ctx:width=5").learner(GivenMaps().double(), 2).double()
    found = learner(support, labels, query, 2).detach()
    key, value = (part.weight.detach()[:, :, 0, 0] for part in (learner.key, learner.value))

    def at(image, row, column):
        return image[:, row, column]

    places = [(row, column) for row in range(2) for column in range(3)]
    for q in range(2):
        for k in range(2):
            items = [support[i] for i in range(4) if labels[i] == k]
            distance = 0.0
            for place in places:
                seeker = key @ at(query[q], *place)
                weights, values = [], []
                for item in items:
                    for other in places:
                        product = float(seeker @ (key @ at(item, *other)))
                        weights.append(math.exp(product / math.sqrt(5)))
                        values.append(value @ at(item, *other))
                aligned = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
                distance += float((value @ at(query[q], *place) - aligned).square().sum())
            assert float(found[q, k]) == pytest.approx(-distance / len(places), rel=1e-9)


def test_the_dilated_network_has_the_same_weights_and_finer_maps():
    """As the definition of a dilated network: sampled every second place, it is the plain one."""
    plain, dilated = (
        build_backbone("resnet18", 1, 0).eval(),
        build_backbone("resnet18", 1, 0).eval(),
    )
    dilate_last_stage(dilated)
    dilate_last_stage(dilated)
    names = list(plain.state_dict())
    assert names == list(dilated.state_dict())
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coarse, fine = plain.maps(images), dilated.maps(images)
    assert coarse.shape[-1] == 3 and fine.shape[-1] == 6
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, rtol=1e-4, atol=1e-5)
    blocks = [block for block in dilated.network.layer4 if isinstance(block, BasicBlock)]
    rates = [conv.dilation[0] for block in blocks for conv in (block.conv1, block.conv2)]
    assert rates == [1, 2, 2, 2]
    shortcut = blocks[0].downsample[0]
    assert isinstance(shortcut, nn.Conv2d) and shortcut.stride == (1, 1)


@pytest.mark.parametrize("name", ["four_layer_convnet", "aa_resnet18"])
def test_other_networks_are_not_dilated(name):
    with pytest.raises(InputError, match="could be dilated"):
        build_method("ctx:dilated=true").learner(build_backbone(name, 1, 0), 64)


def test_instances_are_classes_of_one_image_that_is_asked_for_again():
    support = torch.arange(6.0)[:, None, None, None].expand(6, 3, 2, 2)
    labels, truth = torch.tensor([0, 1, 0, 0, 1, 0]), torch.tensor([1, 0, 0, 1, 1])
    found, own, asked, wanted, way = instances((support, labels, support[:5], truth, 2))
    assert torch.equal(found, support) and own.tolist() == [0, 1, 2, 3, 4, 5] and way == 6
    # two queries of class 0: its first two images; three of class 1, which has two
    assert wanted.tolist() == [0, 2, 1, 4]
    assert asked[:, 0, 0, 0].tolist() == wanted.tolist()


def test_views_are_drawn_for_each_image_alone_by_torchs_generator():
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = image.expand(8, 3, 24, 24)
    torch.manual_seed(1)
    first, other = views(images), views(images, blurred=True)
    torch.manual_seed(1)
    assert torch.equal(views(images), first) and torch.equal(views(images, blurred=True), other)
    assert first.shape == images.shape and first.min() >= -1 and first.max() <= 1
    assert len({tuple(view.flatten().tolist()) for view in first}) == 8
    grey = [(view[0] - view[1]).abs().max() < 1e-5 for view in views(images.repeat(25, 1, 1, 1))]
    assert 20 <= sum(grey) <= 60  # of 200, a fifth


@pytest.mark.parametrize(("share", "alike"), [(0, True), (1, False)])
def test_the_share_of_simclr_episodes(share, alike):
    method = build_method(f"ctx:simclr={share}")
    learner = method.learner(network(), 16).double()
    task = make_task([2, 3])
    episode = (task.support, task.labels, task.query, task.truth, task.way)
    lesson = learner.lesson(episode)
    assert (lesson[4] == task.way) == alike and (lesson[4] == 5) != alike
    torch.manual_seed(0)
    loss = Episodic(learner, method)(*episode)
    torch.manual_seed(0)
    assert torch.equal(Episodic(learner, method)(*episode), loss) and loss.isfinite()


def test_settings():
    for wrong in ("width=0", "simclr=2", "simclr=-0.1"):
        with pytest.raises(InputError, match=r"width is|simclr is"):
            build_method(f"ctx:{wrong}")
