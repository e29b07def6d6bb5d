"""`inspect`: where a network sub-samples, what is filtered there, and what that costs."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from episodes.faults import check_above_zero
from fewshot.backbone_name import BackboneName


@dataclass(frozen=True)
class Command:
    """List every sub-sampling step of a network: filtered or aliased, and its cost.

    Works on every backbone, on timm/<name> and torchvision/<name>, plain or with aa_.
    """

    backbone: str
    """e.g. aa_resnet50, 'aa[skip,conv;binomial5]_resnet50', timm/resnetblur18."""
    image_size: int = 224
    """Side of the square images in pixels."""

    def __post_init__(self) -> None:
        """Raises InputError for a size or a name that no network has."""
        check_above_zero(self, "image_size")
        BackboneName.parse(self.backbone)


def run(command: Command, console: Console) -> int:
    """Print one row per sub-sampling step."""
    from fewshot.antialiasing.inspection import inspect_network  # PyTorch takes seconds
    from fewshot.backbones import build_bare_network
    from fewshot.image_size import check_size

    name = BackboneName.parse(command.backbone)
    network = build_bare_network(name)
    check_size(network, command.image_size, str(name))
    report = inspect_network(network, command.image_size)
    console.print(f"{name} at {command.image_size} px", markup=False, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("step", no_wrap=True, overflow="fold")
    for heading in ("place", "kind", "kernel", "stride", "support", "map"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("before sub-sampling", no_wrap=True)
    for heading in ("MFLOPs", "of plain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step in report.steps:
        ratio = f"{step.flops / step.plain_flops:.2f}×" if step.plain_flops else "–"
        table.add_row(
            Text(step.path or "(network)"),
            step.place,
            step.kind.replace("_", " "),
            _times(step.kernel),
            _times(step.stride),
            str(step.support),
            f"{_times(step.size)} → {_times(step.sampled)}",
            Text(step.filter or "aliased", style="" if step.filtered else "red"),
            f"{step.flops / 1e6:,.1f}",
            ratio,
        )
    console.print(table)
    aliased = sum(not step.filtered for step in report.steps)
    console.print(
        f"{len(report.steps)} steps, {aliased} aliased. {report.flops / 1e9:.3f} GFLOPs an image, "
        f"{report.flops / report.plain_flops:.3f}× those of the same network without filters.",
        highlight=False,
    )
    return 0


def _times(both: tuple[int, int]) -> str:
    return f"{both[0]}×{both[1]}"
