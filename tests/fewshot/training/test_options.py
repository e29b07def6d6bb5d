"""What a recipe can ask for, against the arithmetic written out; and all of it resumable."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from episodes.faults import InputError
from episodes.loader import LabelledImages
from fewshot.backbones import build_backbone
from fewshot.checkpoint import hash_weights
from fewshot.training.averaging import average
from fewshot.training.classifier import CosineClassifier, find_classifier, make_linear
from fewshot.training.loop import Observer, Score, train
from fewshot.training.memory import activation_bytes, largest_batch
from fewshot.training.objective import CrossEntropy
from fewshot.training.optimizers import build_optimizer, scale_gradient
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe
from fewshot.training.snapshots import Snapshots
from fewshot.training.supervised import prepare

CPU = Place(torch.device("cpu"))
RECIPE = Recipe(steps=4, batch_size=8, learning_rate=0.01, augment="none")


@pytest.fixture(scope="module")
def images(miniature):
    return LabelledImages(miniature, "cu_birds", "train", 24)


def hash_of(training, path):
    return hash_weights(train(training, Snapshots(path)).network.state_dict())


EVERYTHING = {
    "adam, gradients of length 1": {"optimizer": "adam", "unit_gradient": True},
    "adam, average, clipping": {"optimizer": "adam", "ema": 0.9, "clip": 0.5, "decay": "weights"},
    "half precision": {"precision": "float16", "optimizer": "nesterov"},
    "brain floats, parts": {"precision": "bfloat16", "accumulate": 2},
    "mixed images": {"mix": "both", "label_smoothing": 0.1, "optimizer": "adamw"},
    "cosine": {"classifier": "cosine", "schedule": "restarts", "period": 3},
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_stopped_and_gone_on_gives_the_same_bits(images, tmp_path, name):
    recipe = replace(RECIPE, **EVERYTHING[name])
    whole = hash_of(prepare("resnet18", [images], recipe, CPU), tmp_path / "whole")
    first = prepare("resnet18", [images], recipe, CPU)
    for batches in first.batches(workers=0):
        first.learn(batches)
        if first.step == 2:
            break
    first.save(Snapshots(tmp_path / "state"))
    second = prepare("resnet18", [images], recipe, CPU)
    assert second.resume(Snapshots(tmp_path / "state")) and second.step == 2
    assert second.scaler.state_dict() == first.scaler.state_dict()
    assert hash_of(second, tmp_path / "state") == whole


def test_dropout_and_stochastic_depth_draw_by_key(images, tmp_path):
    recipe = replace(RECIPE, stochastic_depth=0.5, steps=3)
    hashes = set()
    for name in "ab":
        torch.rand(7)  # what the global generator is at does not matter
        training = prepare("efficientnet_b0", [images], recipe, CPU)
        before = torch.get_rng_state()
        hashes.add(hash_of(training, tmp_path / name))
        assert torch.equal(torch.get_rng_state(), before)
    assert len(hashes) == 1
    branches = [m.p for m in training.objective.modules() if type(m).__name__ == "StochasticDepth"]
    assert branches[-1] == 0.5 and branches == sorted(branches)


def test_averaged_weights():
    network, averaged = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([3.0, 5.0]))
        network.num_batches_tracked.fill_(7)
    average(averaged, network, 0.9, step=1)  # early: (1 + 1) / (10 + 1) of the average stays
    stays = 2 / 11
    torch.testing.assert_close(
        averaged.weight.detach(), torch.tensor([stays + (1 - stays) * 3, stays + (1 - stays) * 5])
    )
    assert averaged.num_batches_tracked == 7
    before = averaged.weight.detach().clone()
    average(averaged, network, 0.9, step=1000)
    torch.testing.assert_close(averaged.weight.detach(), 0.9 * before + 0.1 * network.weight)


def test_all_processes_validate_the_first_one_s_average(images, tmp_path, monkeypatch):
    """Its batch norms too: the others' have seen other images."""
    recipe = replace(RECIPE, steps=1, ema=0.5)
    training = prepare("resnet18", [images], recipe, CPU)
    training.place = Place(torch.device("cpu"), rank=1, ranks=2)
    monkeypatch.setattr(Place, "sum", lambda self, tensor: tensor)
    monkeypatch.setattr(Place, "same", lambda self, number, what: None)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, source: tensor.fill_(7))
    seen = []

    def validate(backbone):
        seen.extend(backbone.buffers())
        return Score(0.5, {})

    train(training, Snapshots(tmp_path / "state"), observer=Observer(validate=validate))
    assert len(seen) == 60 and all((one == 7).all() for one in seen)


def test_weights_that_are_not_finite_are_not_saved(images, tmp_path, monkeypatch):
    """The loss of the step before was."""
    training = prepare("resnet18", [images], replace(RECIPE, steps=1), CPU)
    learn = training.learn

    def poisoned(lesson):
        loss = learn(lesson)
        with torch.no_grad():
            training.objective.backbone.network.conv1.weight[0, 0, 0, 0] = torch.nan
        return loss

    monkeypatch.setattr(training, "learn", poisoned)
    with pytest.raises(InputError, match="the weights are not finite at step 1"):
        train(training, Snapshots(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_the_step_whose_loss_was_not_finite_is_told(images, tmp_path, monkeypatch):
    training = prepare("resnet18", [images], RECIPE, CPU)
    learn = training.learn
    monkeypatch.setattr(
        training, "learn", lambda lesson: learn(lesson) * (torch.inf if training.step == 2 else 1)
    )
    with pytest.raises(InputError, match="the loss is not finite at step 2"):
        train(training, Snapshots(tmp_path / "state"))


def test_norms_and_biases_do_not_decay_where_only_weights_do():
    backbone = build_backbone("resnet18", 5, 0)
    optimizer = build_optimizer(backbone, replace(RECIPE, decay="weights", weight_decay=0.1))
    decays = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in backbone.network.named_parameters():
        light = name.endswith("bias") or "bn" in name or "downsample.1" in name
        assert decays[parameter] == (0.0 if light else 0.1), name
    everything = build_optimizer(backbone, replace(RECIPE, weight_decay=0.1))
    assert [group["weight_decay"] for group in everything.param_groups] == [0.1]


def test_a_clipped_step_is_no_longer_than_asked(images):
    recipe = replace(RECIPE, clip=0.01, learning_rate=1.0, warmup=0, weight_decay=0)
    training = prepare("resnet18", [images], recipe, CPU)
    before = [one.detach().clone() for one in training.objective.parameters()]
    training.learn(next(training.batches(workers=0)))
    moved = [b - a for a, b in zip(before, training.objective.parameters(), strict=True)]
    length = torch.stack([one.detach().norm() for one in moved]).norm()
    assert float(length) == pytest.approx(0.01, rel=1e-3)


def test_a_cosine_classifier_and_its_linear_form_rank_alike(images):
    recipe = replace(RECIPE, classifier="cosine")
    backbone = prepare("resnet18", [images], recipe, CPU).objective.backbone.eval()
    _, classifier = find_classifier(backbone)
    assert isinstance(classifier, CosineClassifier) and classifier.scale.item() == 10
    features = torch.randn(6, 512)
    cosines = functional.cosine_similarity(features[:, None], classifier.weight[None], dim=2)
    torch.testing.assert_close(classifier(features), 10 * cosines)
    pixels = torch.rand(5, 3, 24, 24)
    before = backbone(pixels).argsort(dim=1)
    make_linear(backbone)
    assert type(find_classifier(backbone)[1]) is torch.nn.Linear
    assert torch.equal(backbone(pixels).argsort(dim=1), before)
    plain = build_backbone("resnet18", 14, 0)
    plain.load(backbone.network.state_dict())


def test_images_of_several_sources_are_not_mixed(miniature, images):
    other = LabelledImages(miniature, "dtd", "train", 24)
    with pytest.raises(InputError, match="are not mixed"):
        prepare("resnet18", [images, other], replace(RECIPE, mix="mixup"), CPU)


def test_out_of_gpu_memory_says_what_would_fit(images, monkeypatch):
    training = prepare("resnet18", [images], RECIPE, CPU)

    def exhausted(lesson, part):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    class Properties:
        total_memory = 400_000_000

    monkeypatch.setattr(training, "_loss", exhausted)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    parameters = sum(one.numel() for one in training.objective.parameters())
    per_image = activation_bytes(build_backbone("resnet18", 14, 0), 24)
    fits = int((0.9 * 400e6 - 12 * parameters) / per_image) // 8 * 8  # weights, gradient, momentum
    with pytest.raises(InputError, match=f"8 images at once do not fit.* about {fits} would"):
        training.learn(next(training.batches(workers=0)))


def test_a_compiled_network_takes_the_same_steps(images, tmp_path, monkeypatch):
    """Traced and run by PyTorch's own kernels: other kernels would round in other places."""
    used = []

    def compile(objective):
        used.append(objective)
        torch.nn.Module.compile(objective, backend="eager")

    monkeypatch.setattr(CrossEntropy, "compile", compile)
    plain, compiled = (
        hash_of(
            prepare("resnet18", [images], replace(RECIPE, steps=2, compile=wanted), CPU),
            tmp_path / str(wanted),
        )
        for wanted in (False, True)
    )
    assert len(used) == 1 and compiled == plain


def test_activations_grow_with_the_area_and_the_estimate_of_a_batch_with_the_memory():
    small, large = (activation_bytes(build_backbone("resnet18", 5, 0), size) for size in (64, 128))
    assert 3.5 < large / small < 4.2
    # one image of 128 pixels keeps at least the 64 maps of 64 × 64 behind the stem, in float32
    assert large > 4 * 64 * 64 * 64
    half = activation_bytes(build_backbone("resnet18", 5, 0), 64, half=True)
    assert half == pytest.approx(small / 2)
    assert largest_batch(10e9, 1e9, 8e6) == 1000
    assert largest_batch(1e9, 1e9, 8e6) == 0


def test_a_gradient_is_scaled_to_length_one_over_all_parameters():
    module = torch.nn.Linear(2, 1)
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    scale_gradient(module)
    assert module.weight.grad.tolist() == [[pytest.approx(0.6), 0.0]]
    assert module.bias.grad.tolist() == [pytest.approx(0.8)]
    module.weight.grad, module.bias.grad = torch.tensor([[1e-4, 0.0]]), torch.zeros(1)
    scale_gradient(module)  # the benchmark's 1e-5 on the square
    assert module.weight.grad[0, 0].item() == pytest.approx(1e-4 / 1e-5**0.5)
