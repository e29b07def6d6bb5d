#!/usr/bin/env python3
"""What anti-aliasing costs: forward and backward pass of networks, side by side in one run.

benchmarks/antialias.py [--networks resnet18 aa_resnet18] [--sizes 84 224] [--batch 32]
                        [--rounds 10] [--threads 1]

Prints time over that of the first network and, beside it, FLOPs over the first network's. Rounds
alternate between the networks; the ratio is the median over the rounds, with its quartiles. On a
CPU, processor time is taken, so that other work on the machine disturbs less. With a CUDA GPU, the
same follows for it.

By default glibc takes the memory of every large map from the system anew, which has to clear it,
and gives it back; MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 in the environment keeps
it.

On CUDA, PyTorch's backward pass of reflection padding adds in no fixed order. The filters here do
without it (`fewshot/antialiasing/blur.py`), so deterministic algorithms may be asked for.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from episodes.faults import InputError
from fewshot.antialiasing import blur as arithmetic
from fewshot.antialiasing.inspection import inspect_network
from fewshot.backbone_name import BackboneName
from fewshot.backbones import build_bare_network

NAMES = ("resnet18", "aa_resnet18", "aa[skip]_resnet18", "aa[all]_resnet18", "timm/resnetblur18")


Series = list[float]


def seconds(work: Callable[[], None], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def alternate(works: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, Series]:
    """The times of each, in alternating rounds; a first round that is not counted warms up."""
    times: dict[str, Series] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            taken = seconds(work, device)
            if number:
                times[name].append(taken)
        print(f"round {number} of {rounds}", end="\r", file=sys.stderr)
    return times


def ratios(times: Series, plain: Series) -> Series:
    """Lower quartile, median and upper quartile of the ratios of the rounds."""
    found = [one / other for one, other in zip(times, plain, strict=True)]
    return statistics.quantiles(found, n=4, method="inclusive")


def train_step(network: nn.Module, images: Tensor) -> Callable[[], None]:
    def work() -> None:
        network.zero_grad(set_to_none=True)
        network(images).sum().backward()

    return work


def compare_networks(names: list[str], size: int, batch: int, rounds: int, device: str) -> None:
    shape = (batch, 3, size, size)
    images = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    works, flops = {}, {}
    for name in names:
        try:
            network = build_bare_network(BackboneName.parse(name))
        except InputError as error:  # timm is not installed
            print(f"{name}: {error}")
            continue
        flops[name] = inspect_network(network, size).flops
        network.to(device).to(memory_format=torch.channels_last).train()
        works[name] = train_step(network, images)
    times = alternate(works, rounds, device)
    plain = names[0]
    print(f"\n{device}, {size} px, batch {batch}: forward + backward")
    print(f"{'network':<22}{'ms':>7}{'time':>9}{'quartiles':>16}{'FLOPs':>9}{'time / FLOPs':>14}")
    for name, found in times.items():
        low, time_ratio, high = ratios(found, times[plain])
        flop_ratio = flops[name] / flops[plain]
        print(
            f"{name:<22}{min(found) * 1e3:>7.0f}{time_ratio:>8.3f}×{low:>8.3f}–{high:.3f}"
            f"{flop_ratio:>10.3f}×{time_ratio / flop_ratio:>14.3f}"
        )


def compare_ways(size: int, channels: int, batch: int, rounds: int, device: str) -> None:
    """The filter alone: padding and convolving, and the way that is taken for large maps."""
    maps = torch.rand(batch, channels, size, size, device=device)
    maps = maps.contiguous(memory_format=torch.channels_last).requires_grad_()
    row = torch.tensor([1.0, 2, 1], device=device) / 4
    kernel = torch.outer(row, row)

    gradient = torch.rand_like(arithmetic.blur(maps, kernel, (2, 2)))

    def work(large: int) -> Callable[[], None]:
        def run() -> None:
            arithmetic.LARGE, before = large, arithmetic.LARGE
            arithmetic.blur(maps, kernel, (2, 2)).backward(gradient)
            arithmetic.LARGE = before
            maps.grad = None

        return run

    times = alternate({"pad": work(10**9), "without": work(1)}, rounds, device)
    print(
        f"filter of {channels} × {size} × {size}: padded copy {min(times['pad']) * 1e3:.1f} ms, "
        f"without {min(times['without']) * 1e3:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NAMES)
    parser.add_argument("--sizes", type=int, nargs="+", default=[84, 224])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for size in options.sizes:
            compare_networks(options.networks, size, options.batch, options.rounds, device)
        print()
        if device == "cpu":
            for channels, size in ((64, 112), (128, 56), (64, 42), (128, 21)):
                compare_ways(size, channels, options.batch, options.rounds, device)


if __name__ == "__main__":
    main()
