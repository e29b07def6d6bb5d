"""Weights from elsewhere: torchvision's, timm's, SUR's and URL's files, read and renamed.

Pickled files are read by PyTorch's restricted reader, which makes tensors and plain values.
"""

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from episodes.faults import InputError
from fewshot.backbones import Backbone, build_backbone
from fewshot.checkpoint import load_tensors
from fewshot.film import FILM, insert_film

NESTED = ("state_dict", "model", "model_state_dict", "backbone", "network")
"""Entries of a saved dictionary under which weights are kept."""
PREFIXES = ("module.", "model.", "backbone.", "network.", "encoder.", "feature.")
CLASSIFIERS = ("fc", "head", "head.fc", "classifier", "classifier.1", "linear")
"""What classifiers are called."""
SUR_CLASSIFIER = re.compile(r"cls_fn(?:\.(\d+))?\.weight")
"""SUR's and URL's; those of a network for several sources are numbered."""
SUR_FILM = re.compile(r"(.*)\bfilm(_normalize|1|2)\.(gamma|beta)")
"""Scales and offsets of SUR-pnf, on the input and behind the norms of blocks."""
FILMED = {"_normalize": "conv1", "1": "bn1", "2": "bn2"}
NUMPY_SCALAR = np.float64().__reduce__()[0]
PLAIN_VALUES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
]
"""What files hold beside tensors: settings, and numbers of NumPy as its versions 1 and 2 name
them; SUR and URL keep their best accuracy so."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .safetensors file, or of a file that `torch.save` wrote.

    Raises:
        InputError: the file is missing or damaged, or holds anything but named tensors.
    """
    if not path.is_file():
        raise InputError("there is no such file.", path, "Give the path of a downloaded file.")
    if path.suffix == ".safetensors":
        return load_tensors(path)[0]
    try:
        with torch.serialization.safe_globals(PLAIN_VALUES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that were not written by torch.save
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file the reader raises whatever it stumbles over
        raise InputError(
            f"cannot be read as weights ({_stumbled_over(error)}).",
            path,
            "If it is damaged, download it again. Only tensors and plain values are read, never "
            "other pickled objects: save the state dict alone.",
        ) from error
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise InputError("holds no named tensors.", path, "Save a state dict.")
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise InputError("holds no named tensors.", path, "Save a state dict.")
    return weights


def _stumbled_over(error: Exception) -> str:
    """What the restricted reader met, without its advice to do without the restriction."""
    if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it holds {found[1]}"
    said = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return re.split(r"\n|\. ", said)[0].rstrip(".") or type(error).__name__


def adopt(
    name: str,
    weights: Mapping[str, Tensor],
    *,
    pixels: str = "signed",
    transposed: bool = False,
    onto: Backbone | None = None,
) -> tuple[Backbone, int | None]:
    """A backbone with weights from elsewhere.

    Args:
        name: of the backbone they belong to.
        weights: by the names of their origin.
        pixels: what the weights expect: "signed" pixels in [−1, 1], as SUR's and URL's, or
            "imagenet", those in [0, 1] less the mean over the deviation, as torchvision's. The
            latter is folded into the first convolution, so that signed pixels go in: exact but
            at the border, where the padding stands for grey instead of the mean colour.
        transposed: they expect images with height and width swapped, as SUR's do; kernels are
            turned, so that upright images go in.
        onto: the network that scales and offsets of SUR-pnf belong to, where the weights are
            those of one domain: they, the statistics of norms and a classifier.

    Returns:
        The backbone, in evaluation mode, and the outputs of its classifier; None where the file
        has no classifier, and the backbone has one of zeros.

    Raises:
        InputError: a name or a shape does not fit the backbone.
    """
    renamed = _from_sur(_without_prefix(weights))
    if transposed:
        turned = {k: t.transpose(2, 3).contiguous() for k, t in renamed.items() if t.ndim == 4}
        renamed |= turned
    filmed = any(key.rpartition(".")[2].startswith(FILM) for key in renamed)
    if filmed and onto is None:
        raise InputError(
            "are scales and offsets of SUR-pnf, which belong to a network.",
            "weights",
            "Import that network first and name its checkpoint: --onto.",
        )
    backbone = build_backbone(name, 1, seed=0)
    own_classifier = _classifier_of(backbone)
    outputs, classifier = None, ""
    for candidate in (own_classifier, *CLASSIFIERS):
        matrix = renamed.get(f"{candidate}.weight")
        if matrix is not None and matrix.ndim in (2, 4):
            outputs, classifier = len(matrix), candidate
            backbone = build_backbone(name, outputs, seed=0)
            break
    if onto is not None:
        insert_film(backbone)
        shared = onto.network.state_dict()
        kept = {k: t for k, t in shared.items() if k.rpartition(".")[0] != own_classifier}
        renamed = kept | renamed
    own = backbone.network.state_dict()
    taken = {}
    for key, tensor in renamed.items():
        part, _, kind = key.rpartition(".")
        if part == classifier and classifier:
            taken[f"{own_classifier}.{kind}"] = tensor.float()
        else:
            taken[key] = tensor
    for kind in ("weight", "bias"):
        key = f"{own_classifier}.{kind}"
        if key in own and key not in taken and (kind == "bias" or outputs is None):
            taken[key] = torch.zeros_like(own[key])
    for key in own:
        if key.endswith("num_batches_tracked"):  # older files have none
            taken.setdefault(key, own[key])
    backbone.load(taken)
    if pixels == "imagenet":
        _fold_normalisation(backbone)
    return backbone.eval(), outputs


def _classifier_of(backbone: Backbone) -> str:
    """The last module whose weight has a row per class; of a backbone of one class.

    Raises:
        InputError: there is none.
    """
    found = ""
    for name, module in backbone.network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and len(module.weight) == 1:
            found = name
    if not found:
        raise InputError("has no classifier that could be named.", f"backbone {backbone.name}")
    return found


def _without_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the wrappers that all of them share."""
    names = dict(weights)
    while True:
        shared = [p for p in PREFIXES if names and all(name.startswith(p) for name in names)]
        if not shared:
            return names
        names = {name.removeprefix(shared[0]): tensor for name, tensor in names.items()}


def _from_sur(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SUR's and URL's names as torchvision's, their classifiers as one linear layer.

    Their cosine classifier has a column per class and a scale; a linear one with the unit columns
    times the scale ranks the classes of an image alike. Other names are left as they are.
    """
    renamed: dict[str, Tensor] = {}
    heads: list[tuple[int, str]] = []
    for name, tensor in weights.items():
        if found := SUR_CLASSIFIER.fullmatch(name):
            heads.append((int(found[1] or 0), name.removesuffix("weight")))
        elif found := SUR_FILM.fullmatch(name):
            kind = "scale" if found[3] == "gamma" else "offset"
            renamed[f"{found[1]}{FILMED[found[2]]}.{FILM}{kind}"] = tensor.flatten()
        elif not name.startswith("cls_fn."):
            renamed[name] = tensor
    matrices, biases = [], []
    for _, head in sorted(heads):
        matrix = weights[f"{head}weight"].float()
        if (scale := weights.get(f"{head}scale")) is not None:
            matrix = scale.float() * functional.normalize(matrix, dim=0).T
        matrices.append(matrix)
        biases.append(weights.get(f"{head}bias", torch.zeros(len(matrix))).float())
    if heads:
        renamed |= {"fc.weight": torch.cat(matrices), "fc.bias": torch.cat(biases)}
    return renamed


@torch.no_grad()
def _fold_normalisation(backbone: Backbone) -> None:
    """Let the first convolution take pixels in [−1, 1] where it took ImageNet-normalised ones.

    With x in [−1, 1], (x + 1) / 2 less the mean over the deviation is a·x + b: a scales the
    kernels, and what b adds is taken off again behind the convolution.
    """
    modules = list(backbone.network.modules())
    first = next((m for m in modules if isinstance(m, nn.Conv2d)), None)
    norm = next((m for m in modules if isinstance(m, nn.BatchNorm2d)), None)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    if first is None or first.in_channels != 3:
        raise InputError("has no first convolution of colours.", f"backbone {backbone.name}")
    added = torch.einsum("oihw,i->o", first.weight, (0.5 - mean) / std)
    if first.bias is not None:
        first.bias += added
    elif norm is not None and norm.running_mean is not None and len(added) == norm.num_features:
        norm.running_mean -= added
    else:
        raise InputError(
            "has neither a bias nor a batch norm behind its first convolution.",
            f"backbone {backbone.name}",
            "Import it with --pixels signed.",
        )
    first.weight *= (0.5 / std)[None, :, None, None]
