"""A small evaluation by one process, which all others must equal."""

import pytest

from tests.fewshot.work.evaluations import carry_out, write_backbone


@pytest.fixture(scope="session")
def alone(miniature, tmp_path_factory):
    """A backbone, and the folder of a run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    checkpoint = write_backbone(folder / "resnet18.safetensors")
    carry_out(miniature, checkpoint, folder / "run")
    return checkpoint, folder / "run"
