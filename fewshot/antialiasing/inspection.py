"""A network's sub-sampling steps with their cost."""

from dataclasses import dataclass

from torch import nn

from fewshot.antialiasing.steps import Step, steps_on
from fewshot.antialiasing.tape import probe_image, record


@dataclass(frozen=True)
class Inspection:
    """What a network does at one image size.

    Attributes:
        steps: every sub-sampling step, in order.
        flops: of the whole network on one image: two per multiply-add of convolutions, linear
            layers and filters, one per comparison of a pooling.
        plain_flops: without the filters, every step with its stride.
    """

    steps: tuple[Step, ...]
    flops: int
    plain_flops: int


def inspect_network(network: nn.Module, image_size: int) -> Inspection:
    """List the sub-sampling steps of any network; it is left as it was.

    Raises:
        InputError: the network cannot be run on an image of this size.
    """
    tape = record(network, probe_image(network, image_size))
    steps = steps_on(tape)
    flops = sum(call.flops for call in tape.calls)
    return Inspection(steps, flops, flops - sum(step.flops - step.plain_flops for step in steps))
