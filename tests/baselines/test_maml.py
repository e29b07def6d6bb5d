"""The inner loop: by learn2learn, by torch.func and written out, to the same numbers in float64."""

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from baselines.inner_loop import INSTALL, chosen
from baselines.learner import Learner
from baselines.table import build_method
from episodes.faults import InputError
from episodes.protocol import find_protocol
from tests.baselines.contract import make_learner, make_task
from tests.baselines.given import GivenMaps, points

SUPPORT = points([0.5, -1, 0.2], [1, 0.3, 0], [-0.4, 0.8, 0.6])
LABELS = torch.tensor([0, 0, 1])
QUERY = points([1, 1, 0], [0, 2, -1])
TRUTH = torch.tensor([1, 0])
RATE, STEPS = 0.3, 3
LIBRARIES = [
    "torch_func",
    pytest.param(
        "learn2learn",
        marks=pytest.mark.skipif(chosen("auto") != "learn2learn", reason="not installed"),
    ),
]


def small(text: str, library: str) -> Learner:
    """On given maps, whose one weight is the backbone."""
    joint = "," if ":" in text else ":"
    made = build_method(f"{text}{joint}rate={RATE},steps={STEPS},library={library}")
    return made.learner(GivenMaps().double(), 1).double()


def softmax(scores):
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def by_hand(weight, layer=None, tunes_weight=True):
    """Weight and layer `[4, 2]` after the inner loop, with every gradient written out."""
    x, y = SUPPORT.flatten(1).numpy(), np.eye(2)[LABELS.numpy()]
    layer = np.zeros((4, 2)) if layer is None else layer.copy()
    for _ in range(STEPS):
        products = x @ layer[:3]
        wrong = (softmax(weight * products + layer[3]) - y) / len(x)
        slope = (wrong * products).sum()
        layer = layer - RATE * np.concatenate([weight * x.T @ wrong, wrong.sum(axis=0)[None]])
        weight = weight - RATE * slope if tunes_weight else weight
    return weight, layer


def outer_loss(weight, layer):
    scores = weight * QUERY.flatten(1).numpy() @ layer[:3] + layer[3]
    return -np.log(softmax(scores)[np.arange(2), TRUTH.numpy()]).mean()


def outer_gradient(learner):
    loss = learner.loss(learner(SUPPORT, LABELS, QUERY, 2), TRUTH)
    (gradient,) = torch.autograd.grad(loss, [learner.backbone.network.weight])
    return gradient.item()


def slope(function, at=1.0, width=1e-5):
    return (function(at + width) - function(at - width)) / (2 * width)


@pytest.mark.parametrize("library", LIBRARIES)
def test_maml_takes_the_steps_written_out(library):
    learner = small("maml:extra_steps=0", library)
    weight, layer = by_hand(1.0)
    expected = weight * QUERY.flatten(1).numpy() @ layer[:3] + layer[3]
    np.testing.assert_allclose(learner(SUPPORT, LABELS, QUERY, 2).detach(), expected, rtol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_first_order_gradient_is_taken_at_the_tuned_weights(library):
    weight, layer = by_hand(1.0)
    expected = slope(lambda w: outer_loss(w, layer), weight)
    found = outer_gradient(small("maml:extra_steps=0", library))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_full_gradient_goes_through_the_steps(library):
    expected = slope(lambda w: outer_loss(*by_hand(w)))
    found = outer_gradient(small("maml:extra_steps=0,first_order=false", library))
    assert found == pytest.approx(expected, rel=1e-5)
    assert found != pytest.approx(outer_gradient(small("maml:extra_steps=0", library)), rel=1e-2)


def prototypes(weight):
    x = SUPPORT.flatten(1).numpy() * weight
    means = np.stack([x[:2].mean(axis=0), x[2]])
    return np.concatenate([2 * means.T, -(means**2).sum(axis=1)[None]])


@pytest.mark.parametrize("library", LIBRARIES)
def test_proto_maml_starts_at_the_prototypes_and_its_gradient_reaches_them(library):
    def loss(weight):
        return outer_loss(*by_hand(weight, prototypes(weight)))

    full = small("proto_maml:first_order=false", library)
    assert full.loss(full(SUPPORT, LABELS, QUERY, 2), TRUTH).item() == pytest.approx(loss(1.0))
    assert outer_gradient(full) == pytest.approx(slope(loss), rel=1e-5)
    weight, layer = by_hand(1.0, prototypes(1.0))
    change = layer - prototypes(1.0)  # a constant to the first-order gradient

    def first_order(w):
        return outer_loss(w + weight - 1.0, prototypes(w) + change)

    found = outer_gradient(small("proto_maml", library))
    assert found == pytest.approx(slope(first_order), rel=1e-5)


def test_proto_maml_without_steps_is_the_prototypical_network():
    task = make_task([2, 3, 1])
    scores = task.scores(make_learner(build_method("proto_maml:steps=0")))
    expected = task.scores(make_learner(build_method("protonet")))
    torch.testing.assert_close(scores.softmax(dim=1), expected.softmax(dim=1))


@pytest.mark.parametrize("library", LIBRARIES)
def test_anil_tunes_the_layer_alone(library):
    _, layer = by_hand(1.0, tunes_weight=False)
    expected = QUERY.flatten(1).numpy() @ layer[:3] + layer[3]
    learner = small("anil", library)
    np.testing.assert_allclose(learner(SUPPORT, LABELS, QUERY, 2).detach(), expected, rtol=1e-12)
    full = slope(lambda w: outer_loss(w, by_hand(w, tunes_weight=False)[1]))
    assert outer_gradient(learner) == pytest.approx(full, rel=1e-5)


@pytest.mark.skipif(chosen("auto") != "learn2learn", reason="not installed")
@pytest.mark.parametrize("text", ["maml:first_order=false", "proto_maml:batch_norm=transductive"])
def test_both_libraries_agree_on_a_network_to_the_last_digits(text):
    task, found = make_task([3, 1, 2]), {}
    for library in ("torch_func", "learn2learn"):
        learner = make_learner(build_method(f"{text},rate=0.01,steps=3,library={library}")).train()
        loss = learner.loss(task.scores(learner), task.truth)
        loss.backward()
        gradients = {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}
        buffers = dict(learner.named_buffers())
        found[library] = {"loss": loss.detach()} | gradients | buffers
    torch.testing.assert_close(*found.values(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_running_averages_follow_the_last_pass_of_an_episode_and_no_step_of_the_loop(library):
    """learn2learn's clones share their buffers, so whatever follows a clone stays."""
    learner = make_learner(build_method(f"maml:library={library},steps=4")).train()
    task = make_task([2, 2])
    norm = next(m for m in learner.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    passes = []
    norm.register_forward_hook(lambda module, inputs, _: passes.append(inputs[0].detach()))
    task.scores(learner)
    assert len(passes) == 5
    moments = passes[-1][: len(task.labels)].mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * moments)


def test_more_steps_in_evaluation_only():
    learner = make_learner(build_method("maml:steps=2,extra_steps=3"))
    assert learner.loop.steps == 5 and learner.train().loop.steps == 2


def test_batch_norm_can_be_left_out_of_the_loop():
    every = make_learner(build_method("maml")).adapted
    few = make_learner(build_method("maml:adapt_batch_norm=false")).adapted
    # the second module of each layer
    norms = {
        f"backbone.network.layers.{n}.1.{kind}" for n in range(4) for kind in ("weight", "bias")
    }
    assert len(norms) == 8 and set(few) == set(every) - norms
    assert not any("fc" in name for name in every)


def test_a_learned_layer_is_of_a_fixed_number_of_ways():
    method = build_method("maml:start=learned,outputs=5")
    learner = make_learner(method)
    assert learner.beside()["layer"].shape == (64 + 1, 5)
    task = make_task([1, 1, 1, 1, 2])
    scores = task.scores(learner)
    functional.cross_entropy(scores, task.truth).backward()
    assert learner.layer.grad.abs().sum() > 0
    three = make_task([1, 1, 2])
    with pytest.raises(InputError, match="was learned for 5 ways, and 3 ways are asked for"):
        three.scores(learner)
    method.check_protocol(find_protocol("5w1s"))
    with pytest.raises(InputError, match="for 5 ways, and up to 50 ways are asked for"):
        method.check_protocol(find_protocol("md-v1"))


def test_more_ways_than_outputs():
    method = build_method("proto_maml:outputs=20")
    with pytest.raises(InputError, match="50 classes is more than the 20 outputs"):
        method.check_protocol(find_protocol("md-v1"))
    with pytest.raises(InputError, match="3 classes is more than the 2 outputs"):
        make_task([1, 1, 1]).scores(make_learner(build_method("maml:outputs=2")))


def test_learn2learn_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    with pytest.raises(InputError) as error:
        make_learner(build_method("maml:library=learn2learn"))
    assert INSTALL in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("maml:rate=0", "rate is positive"),
        ("maml:steps=-1", "steps are counts"),
        ("anil:batch_norm=running", "batch_norm is support or transductive"),
        ("maml:start=prototype", "Did you mean 'prototypes'"),
    ],
)
def test_wrong_settings(text, words):
    with pytest.raises(InputError, match=words):
        build_method(text)
