"""What the rows of a run are made of: a run never mixes rows of different makings.

Settings alone do not say everything. Records can be converted again in place, a head's file can
be edited, a default can change with the program, a checkpoint can be replaced, other episodes can
come from a plan file: each of these is an ingredient, kept by its hash with the run.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from episodes import EpisodeReader
from episodes.miniature import MINIATURE_VERSION, is_complete
from episodes.reader import ImageReader
from fewshot.checkpoint import Card
from fewshot.evaluation import Entry
from fewshot.heads import Head, file_of_head


def fingerprint(images: ImageReader) -> str:
    """Tells the images of a split apart from any others: by specification, sizes and dates."""
    if is_complete(images.spec.folder.parent):
        return f"miniature v{MINIATURE_VERSION}"  # may be drawn again at any time
    return images.encoded.fingerprint()


def hash_head(head: Head) -> str:
    """Eight hexadecimal digits of a head's class, all its settings, and its file if it has one."""
    file = file_of_head(head)
    code = file.read_bytes() if file else b""
    settings = json.dumps([type(head).__qualname__, asdict(head)], default=str)
    return hashlib.sha256(settings.encode() + code).hexdigest()[:8]


def collect_ingredients(
    readers: Mapping[str, EpisodeReader], entries: Sequence[Entry], cards: Sequence[Card]
) -> dict[str, str]:
    """Every ingredient by its name, with its hash."""
    return (
        {f"the source {name}": fingerprint(reader.images) for name, reader in readers.items()}
        | {f"the episodes of {name}": reader.plan(0).hash for name, reader in readers.items()}
        | {f"the head {entry.label}": hash_head(entry.head) for entry in entries}
        | {
            f"backbone {number} ({card.backbone})": card.weights
            for number, card in enumerate(cards)
        }
    )
