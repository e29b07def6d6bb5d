"""TensorFlow beside PyTorch in one process: triton must be there first.

PyTorch loads triton late, with torchvision or the first optimiser. Where TensorFlow is there by
then, the process dies of a segmentation fault (tensorflow 2.21, triton 3.8). Seen the other way
round, all is well.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

from episodes.faults import InputError

TF_COMMAND = "pip install 'tensorflow-cpu>=2.16'"


def import_tensorflow() -> ModuleType:
    """TensorFlow, with triton loaded before it where there is one.

    Raises:
        InputError: TensorFlow is not installed.
    """
    if "tensorflow" not in sys.modules and find_spec("triton"):
        import triton  # noqa: F401
    try:
        import tensorflow
    except ImportError as error:
        raise InputError("TensorFlow is not installed.", remedy=f"Run: {TF_COMMAND}.") from error
    module: ModuleType = tensorflow
    return module


def check_import_order() -> None:
    """Before torchvision is imported.

    Raises:
        InputError: it would end the process.
    """
    if "tensorflow" in sys.modules and "triton" not in sys.modules and find_spec("triton"):
        raise InputError(
            "TensorFlow was imported first, which crashes the process when PyTorch loads triton.",
            remedy="Put `import torchvision` before `import tensorflow`.",
        )
