"""What is done with networks is done with filtered ones: copied, compiled, distributed, …"""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet18

from fewshot import antialias


@pytest.fixture
def network():
    torch.manual_seed(0)
    return antialias(resnet18(num_classes=4), "all", "binomial5").eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 70, 70, generator=torch.Generator().manual_seed(1))


def test_a_copy_is_whole_and_independent(network, images):
    expected = network(images)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(images), expected)
    assert twin.maxpool.filter_after is not network.maxpool.filter_after
    with torch.no_grad():
        twin.maxpool.filter_after.kernel_float32.zero_()
    assert torch.equal(network(images), expected) and not torch.equal(twin(images), expected)


def test_the_state_dict_survives_pickling_and_loads_strictly(network, images):
    weights = pickle.loads(pickle.dumps(network.state_dict()))
    other = antialias(resnet18(num_classes=4), "all", "binomial5").eval()
    other.load_state_dict(weights, strict=True)
    assert torch.equal(other(images), network(images))
    resnet18(num_classes=4).load_state_dict(weights, strict=True)


def test_the_whole_network_survives_pickling(network, images):
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(images), network(images))


def test_channels_last(network, images):
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    images_last = images.to(memory_format=torch.channels_last)
    maps = last.maxpool(last.relu(last.bn1(last.conv1(images_last))))
    assert maps.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images_last), network(images), rtol=1e-4, atol=1e-5)


def test_autocast(network, images):
    network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network(images)
    assert scores.dtype == torch.bfloat16
    scores.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_half_and_double(network, images):
    expected = network(images)
    double = copy.deepcopy(network).double()(images.double())
    torch.testing.assert_close(double.float(), expected, rtol=1e-3, atol=1e-4)
    half = copy.deepcopy(network).bfloat16()(images.bfloat16())
    assert half.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_torch_compile(network, images):
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(network), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), network(images), rtol=1e-4, atol=1e-5)
    compiled(images).sum().backward()
    network(images).sum().backward()
    own = dict(network.named_parameters())
    for name, parameter in compiled._orig_mod.named_parameters():
        torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-3, atol=1e-4)


def can_compile():
    try:
        return bool(get_cpp_compiler())
    except Exception:  # whatever it meets while it looks for one
        return False


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_torch_compile_to_machine_code():
    torch._dynamo.reset()
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()
    network = antialias(
        nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 5, 1, 2)), "all"
    ).eval()
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True)
    images = torch.rand(2, 3, 45, 45)
    found, expected = compiled(images), network(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    own = dict(network.named_parameters())
    for name, parameter in compiled._orig_mod.named_parameters():
        torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-3, atol=1e-4)


def test_the_graph_can_be_traced(network, images):
    traced = torch.fx.symbolic_trace(network)
    torch.testing.assert_close(traced(images), network(images))


def work(rank, path, weights, results):
    """One of two processes: its half of the batch, gradients averaged over both."""
    store = torch.distributed.FileStore(path, 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    network = antialias(resnet18(num_classes=4)).eval()  # eval: no statistics of half a batch
    network.load_state_dict(weights)
    parallel = DistributedDataParallel(network)
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    parallel(images[rank : rank + 1]).sum().backward()
    if rank == 0:
        results.put(network.conv1.weight.grad.numpy())
    torch.distributed.destroy_process_group()


def test_distributed_training_gives_the_gradient_of_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    network = antialias(resnet18(num_classes=4)).eval()
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    (network(images).sum() / 2).backward()
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    arguments = (str(tmp_path / "store"), weights, results)
    processes = [context.Process(target=work, args=(rank, *arguments)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = torch.from_numpy(results.get(timeout=120))
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    torch.testing.assert_close(found, network.conv1.weight.grad, rtol=1e-4, atol=1e-5)


def test_second_derivatives(network):
    images = torch.rand(1, 3, 40, 40, requires_grad=True)
    loss = network(images).square().sum()
    (first,) = torch.autograd.grad(loss, images, create_graph=True)
    first.square().sum().backward()
    assert torch.isfinite(images.grad).all() and isinstance(network, nn.Module)
