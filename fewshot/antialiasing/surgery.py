"""Anti-aliasing as surgery: a fixed low-pass filter before each critical sub-sampling.

Sub-sampling by 2 folds every frequency above the new Nyquist onto a lower one. A filter goes
where the operation before the sub-sampling has too little spatial support to have learnt a
low-pass itself:

* max pooling: pool at stride 1, then filter and sub-sample;
* strided convolutions of the main path: convolve at stride 1, normalise, activate, then filter
  and sub-sample;
* strided 1×1 shortcuts: filter and sub-sample, then project (the order does not matter to a
  per-channel filter, and this one costs nothing).

Filters are buffers outside the state dict: parameters, their names and published weights stay.

Source: Vasconcelos et al. 2021, sections 3 and 4; binomial filters from Zhang 2019.
"""

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.misc import Conv2dNormActivation

from episodes.faults import InputError
from fewshot.antialiasing.low_pass import LowPass

ENOUGH_SUPPORT = 7
"""A kernel this wide is left alone: it can learn a low-pass (the 7×7 stem of ResNets)."""


class FilteredConv2d(nn.Conv2d):
    """A convolution whose input is filtered and sub-sampled first; parameters as in Conv2d."""

    def __init__(self, conv: nn.Conv2d, stride: int) -> None:
        """Take over the settings and the very parameters of `conv`."""
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device="meta",  # neither memory nor random numbers for weights that are replaced
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.low_pass = LowPass(stride)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(self.low_pass(maps))


def antialias(network: nn.Module) -> nn.Module:
    """Filter the critical sub-sampling steps of a torchvision ResNet or EfficientNet, in place.

    Parameter names, parameters and output shapes stay as they are.

    Returns:
        The network itself.

    Raises:
        InputError: the network has no step that this surgery knows.
    """
    filtered = 0
    for module in list(network.modules()):
        if isinstance(module, ResNet):
            filtered += _filter_stem(module)
        elif isinstance(module, BasicBlock | Bottleneck):
            filtered += _filter_block(module)
        elif isinstance(module, Conv2dNormActivation):
            filtered += _filter_unit(module)
    if not filtered:
        raise InputError(
            "has no sub-sampling step that can be anti-aliased.",
            type(network).__name__,
            "Use a torchvision ResNet or EfficientNet.",
        )
    return network


def _take_stride(conv: nn.Module) -> int:
    """Set a convolution to stride 1 if it sub-samples with a narrow kernel; its stride, or 1."""
    if not isinstance(conv, nn.Conv2d) or max(conv.kernel_size) >= ENOUGH_SUPPORT:
        return 1
    stride = conv.stride[0]
    conv.stride = (1, 1)
    return stride


def _filter_stem(network: ResNet) -> int:
    pool, filtered = network.maxpool, 0
    after_activation: list[nn.Module] = []
    if (stride := _take_stride(network.conv1)) > 1:
        after_activation.append(LowPass(stride))
        filtered += 1
    if isinstance(pool, nn.MaxPool2d) and isinstance(pool.stride, int) and pool.stride > 1:
        after_activation += [pool, LowPass(pool.stride)]
        pool.stride = 1
        filtered += 1
    if filtered:
        network.maxpool = nn.Sequential(*after_activation)  # has no parameters
    return filtered


def _filter_block(block: BasicBlock | Bottleneck) -> int:
    """The strided 3×3 convolution and the shortcut of a residual block."""
    filtered = 0
    # What the activation after the strided convolution feeds: filtering its input is filtering
    # after the activation.
    strided, following = ("conv1", "conv2") if isinstance(block, BasicBlock) else ("conv2", "conv3")
    if (stride := _take_stride(getattr(block, strided))) > 1:
        setattr(block, following, FilteredConv2d(getattr(block, following), stride))
        filtered += 1
    if block.downsample is not None and (stride := _take_stride(block.downsample[0])) > 1:
        block.downsample[0] = FilteredConv2d(block.downsample[0], stride)
        filtered += 1
    return filtered


def _filter_unit(unit: Conv2dNormActivation) -> int:
    """Convolution, norm and activation in a row, as EfficientNet is built of."""
    if (stride := _take_stride(unit[0])) > 1:
        unit.append(LowPass(stride))
        return 1
    return 0
