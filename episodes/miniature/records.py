"""The miniature on disk: ten folders of records and specifications, drawn once and kept."""

import json
import shutil
import signal
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from episodes.faults import InputError, unknown_name, writing
from episodes.miniature import taxonomy
from episodes.miniature.canvas import encode_jpeg
from episodes.miniature.table import TABLE, MiniatureSource
from episodes.protocol import Split
from episodes.records import cache_folder
from episodes.spec import FILE_PATTERN, SPEC_FILE
from episodes.tfrecord import encode_example, write_records

MINIATURE_VERSION = 1
"""Rises with any change that moves a pixel, a class or a count."""

COMPLETE = "COMPLETE"
"""Written last, holding the version: without it a folder is not a miniature."""


def default_folder() -> Path:
    """Where the miniature is kept: the user's cache folder, one folder per version."""
    return cache_folder() / f"miniature-v{MINIATURE_VERSION}"


def draw_miniature(
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    jobs: int = 2,
) -> Path:
    """Draw all ten sources in the official format, unless they are there already.

    The folder appears complete or not at all: it is drawn beside its place and renamed at the
    end. Two processes may do this at once; the first to finish wins. The bytes depend on the
    version alone (and on the JPEG encoder of the installed Pillow), not on `jobs`.

    Args:
        folder: where the records shall lie; None is the user's cache (`default_folder`).
        progress: called with class files done and in all.
        jobs: processes that draw.

    Returns:
        The records folder, with one folder per source.

    Raises:
        InputError: the folder cannot be written, or holds something else.
    """
    folder = Path(folder) if folder is not None else default_folder()
    if is_complete(folder):
        return folder
    with writing(folder, "set XDG_CACHE_HOME to a folder with room for 40 MB", "the miniature"):
        if folder.exists() and any(folder.iterdir()):
            what = f"holds files that are not version {MINIATURE_VERSION} of the miniature."
            raise InputError(what, folder, "Remove them, or name another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            _draw_all(building, progress, jobs)
            (building / COMPLETE).write_text(f"{MINIATURE_VERSION}\n", encoding="utf-8")
            building.chmod(0o755)
            _move_unless_beaten(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether a whole miniature of this version lies in the folder."""
    try:
        return (folder / COMPLETE).read_text(encoding="utf-8").strip() == str(MINIATURE_VERSION)
    except (OSError, UnicodeDecodeError):
        return False


def draw_source(source: str, folder: Path) -> Path:
    """Draw one source, in this process.

    Args:
        source: its official name.
        folder: of the records; the source gets a folder of its own in it.

    Returns:
        The source's folder.

    Raises:
        InputError: the source is unknown.
    """
    if source not in TABLE:
        raise unknown_name("source", source, TABLE)
    for class_id in range(len(TABLE[source].all_classes)):
        _draw_class(source, class_id, folder)
    _write_spec(source, folder)
    return folder / source


def image_rng(source: str, class_id: int, image: int | None) -> Generator:
    """The generator of one image, or of the class itself (None): a function of its key alone."""
    key = [MINIATURE_VERSION, zlib.crc32(source.encode()), class_id]
    key.append(0 if image is None else image + 1)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def class_images(source: str, class_id: int) -> Iterator[bytes]:
    """The encoded images of a class, in the order of its records."""
    one = TABLE[source].all_classes[class_id]
    genome = one.genome(image_rng(source, class_id, None))
    for image in range(one.images):
        yield encode_jpeg(genome.paint(image_rng(source, class_id, image)))


def _draw_class(source: str, class_id: int, folder: Path) -> None:
    examples = (encode_example(image, class_id) for image in class_images(source, class_id))
    write_records(folder / source / FILE_PATTERN.format(class_id), examples)


def _draw_all(folder: Path, progress: Callable[[int, int], None] | None, jobs: int) -> None:
    files = [(name, k) for name, source in TABLE.items() for k in range(len(source.all_classes))]
    if progress:
        progress(0, len(files))
    if jobs <= 1:
        for done, (source, class_id) in enumerate(files, start=1):
            _draw_class(source, class_id, folder)
            if progress:
                progress(done, len(files))
    else:
        # spawned, not forked: the caller may hold threads (torch does)
        ignore_interrupts = (signal.SIGINT, signal.SIG_IGN)  # the caller's business
        with ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=signal.signal, initargs=ignore_interrupts
        ) as pool:
            drawn = [pool.submit(_draw_class, *file, folder) for file in files]
            try:
                for done, one in enumerate(as_completed(drawn), start=1):
                    one.result()
                    if progress:
                        progress(done, len(files))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    for source in TABLE:
        _write_spec(source, folder)


def _move_unless_beaten(building: Path, folder: Path) -> None:
    """Put the finished folder in its place, unless another process was faster."""
    try:  # replaces a folder that is empty, never one that is not
        building.rename(folder)
    except OSError:
        if not is_complete(folder):
            raise


# ---- specifications --------------------------------------------------------------------------


def _write_spec(source: str, folder: Path) -> None:
    path = folder / source / SPEC_FILE
    spec = specification(source) | {"path": str(source), "file_pattern": FILE_PATTERN}
    path.write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")


def specification(source: str) -> dict[str, Any]:
    """The content of a source's official `dataset_spec.json`.

    Source: facts of the official format, sections 1.4 to 1.6.
    """
    drawn = TABLE[source]
    classes = drawn.all_classes
    names = {str(class_id): one.name for class_id, one in enumerate(classes)}
    images = {str(class_id): one.images for class_id, one in enumerate(classes)}
    if drawn.hierarchical:
        return _hierarchical_spec(source, drawn, names)
    if drawn.superclasses:
        superclasses = [pair for split in Split for pair in drawn.superclasses[split]]
        return {
            "name": source,
            "superclasses_per_split": {s.name: len(drawn.superclasses[s]) for s in Split},
            "classes_per_superclass": {str(k): size for k, (_, size) in enumerate(superclasses)},
            "images_per_class": images,
            "superclass_names": {str(k): name for k, (name, _) in enumerate(superclasses)},
            "class_names": names,
            "__class__": "BiLevelDatasetSpecification",
        }
    return {
        "name": source,
        "classes_per_split": {split.name: len(drawn.classes[split]) for split in Split},
        "images_per_class": images,
        "class_names": names,
        "__class__": "DatasetSpecification",
    }


def _hierarchical_spec(
    source: str, drawn: MiniatureSource, names: dict[str, str]
) -> dict[str, Any]:
    counts = {s: {one.name: one.images for one in drawn.classes[s]} for s in Split}
    return {
        "name": source,
        "split_subgraphs": {
            split.name: [
                {
                    "wn_id": node.wn_id,
                    "words": node.words,
                    "children_ids": list(node.children_ids),
                    "parents_ids": list(node.parents_ids),
                }
                for node in taxonomy.subgraph(split)
            ]
            for split in Split
        },
        "images_per_class": {s.name: taxonomy.leaf_counts(s, counts[s]) for s in Split},
        "class_names": names,
        "__class__": "HierarchicalDatasetSpecification",
    }
