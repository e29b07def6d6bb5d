"""Every backbone of the table, under one suite."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import efficientnet_b0, resnet18

from episodes.faults import InputError
from fewshot.antialiasing import sub_sampling_steps
from fewshot.backbone_name import BackboneName
from fewshot.backbones import BACKBONES, build_backbone, build_bare_network
from fewshot.cost import CORE_SECONDS, core_seconds


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    return build_backbone(request.param, classes=5, seed=1).eval()


def test_stages_have_the_stated_dimensions(backbone):
    stages = backbone.stages(torch.zeros(2, 3, 84, 84))
    assert [tuple(stage.shape) for stage in stages] == [(2, dim) for dim in backbone.stage_dims]


def test_the_last_stage_is_what_the_classifier_sees(backbone):
    seen = []
    heads = [m for n, m in backbone.network.named_children() if n in ("fc", "classifier")]
    heads[0].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].flatten(1)))
    images = torch.rand(2, 3, 84, 84)
    assert backbone(images).shape == (2, 5)
    torch.testing.assert_close(seen[0], backbone.embed(images), rtol=1e-4, atol=1e-5)


def test_sizes_stay_those_of_the_plain_network(backbone):
    """At every step, for odd sizes: filtered at the critical ones, and at all."""
    name = BackboneName.parse(backbone.name)
    plain = build_bare_network(BackboneName(name.plain))
    filtered = backbone.network
    if not name.antialiased:
        filtered = build_bare_network(BackboneName(name.plain, ("all",)))
        assert all(step.filtered for step in sub_sampling_steps(filtered))
    for size in (33, 97):
        expected = [step.sampled for step in sub_sampling_steps(plain, size)]
        assert [step.sampled for step in sub_sampling_steps(filtered, size)] == expected
    assert list(filtered.state_dict()) == list(plain.state_dict())


def test_same_seed_same_weights_and_no_global_draw(backbone):
    before = torch.random.get_rng_state()
    again = build_backbone(backbone.name, classes=5, seed=1)
    other = build_backbone(backbone.name, classes=5, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = backbone.network.state_dict()
    assert all(torch.equal(w, weights[n]) for n, w in again.network.state_dict().items())
    assert any(not torch.equal(w, weights[n]) for n, w in other.network.state_dict().items())


def test_a_network_and_its_variant_start_alike(backbone):
    plain = build_backbone(backbone.name.removeprefix("aa_"), classes=5, seed=1)
    weights = plain.network.state_dict()
    assert all(torch.equal(w, weights[n]) for n, w in backbone.network.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_published_weights_load_strictly_into_the_variant(name):
    published = {"resnet18": resnet18, "efficientnet_b0": efficientnet_b0}[name]()
    build_backbone(f"aa_{name}", classes=1000, seed=0).load(published.state_dict())


def test_the_sur_variant_has_its_published_shape():
    backbone = build_backbone("resnet18_sur", classes=5, seed=0)
    shapes = []
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        layer = getattr(backbone.network, name)
        layer.register_forward_hook(lambda _m, _i, out: shapes.append(out.shape[-1]))
    backbone.embed(torch.zeros(1, 3, 84, 84))
    assert shapes == [41, 41, 21, 11, 6]  # facts on heads, section 3
    trunk = [p for n, p in backbone.network.named_parameters() if not n.startswith("fc")]
    assert sum(p.numel() for p in trunk) == 11_171_904


def test_filtering_resnet18_costs_the_known_factor():
    flops = []
    for name in ("resnet18", "aa_resnet18"):
        with FlopCounterMode(display=False) as counter:
            build_backbone(name, 5, 0).eval().embed(torch.zeros(1, 3, 84, 84))
        flops.append(counter.get_total_flops())
    assert round(flops[1] / flops[0], 2) == 1.27  # facts on anti-aliasing


def test_every_backbone_has_a_cost():
    assert CORE_SECONDS.keys() == set(BACKBONES)
    assert core_seconds("aa[skip;binomial5]_resnet18") == CORE_SECONDS["aa_resnet18"]
    assert core_seconds("timm/resnet18") is None


def test_a_backbone_is_its_name():
    name = "aa[skip,conv;binomial5;silu]_resnet34"
    backbone = build_backbone(name, classes=5, seed=1)
    assert backbone.name == "aa[conv,skip;binomial5;silu]_resnet34"
    steps = sub_sampling_steps(backbone.network)
    assert {step.place for step in steps if step.filter == "binomial5"} == {"conv", "skip"}
    again = build_backbone(backbone.name, classes=5, seed=1)
    images = torch.rand(1, 3, 50, 50)
    assert torch.equal(again.eval().embed(images), backbone.eval().embed(images))


@pytest.mark.parametrize("name", ["timm/resnet18d", "aa_timm/mobilenetv3_small_050"])
def test_any_network_of_timm_is_a_backbone(name):
    backbone = build_backbone(name, classes=5, seed=1).eval()
    images = torch.rand(2, 3, 84, 84)
    assert [stage.shape[1] for stage in backbone.stages(images)] == list(backbone.stage_dims)
    assert len(backbone.stage_dims) == 4 and backbone(images).shape == (2, 5)


def test_stages_leave_nothing_behind():
    backbone = build_backbone("resnet18", classes=5, seed=0).eval()
    assert backbone.stage_paths == ("layer1", "layer2", "layer3", "layer4")
    backbone.stages(torch.rand(1, 3, 40, 40))
    assert not any(m._forward_hooks for m in backbone.modules())


def test_weights_that_do_not_fit_are_named():
    backbone = build_backbone("resnet18", classes=5, seed=0)
    weights = backbone.network.state_dict()
    weights["extra"] = weights.pop("conv1.weight")
    weights["fc.bias"] = torch.zeros(7)
    message = r"3 of the weights do not fit: conv1.weight \(missing\), extra \(unknown\), fc.bias"
    with pytest.raises(InputError, match=message):
        backbone.load(weights)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'aa_resnet18'"):
        build_backbone("aa_resnet19", classes=5, seed=0)


def test_weights_of_a_network_that_asks_for_versions():
    """MNASNet's modules read the version that a plain mapping of tensors has not."""
    backbone = build_backbone("aa_torchvision/mnasnet0_5", classes=3, seed=1)
    weights = dict(backbone.network.state_dict())
    again = build_backbone("aa_torchvision/mnasnet0_5", classes=3, seed=2)
    again.load(weights)
    assert all(torch.equal(w, weights[n]) for n, w in again.network.state_dict().items())


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize(
    ("name", "dim"), [("squeezenet1_1", 512), ("inception_v3", 2048), ("shufflenet_v2_x0_5", 1024)]
)
def test_features_are_the_last_maps_before_the_scores(name, dim):
    """SqueezeNet's scores are maps themselves; Inception's last map is small."""
    backbone = build_backbone(f"torchvision/{name}", classes=5, seed=0)
    assert backbone.stage_dims[-1] == dim
