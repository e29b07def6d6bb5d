"""Images of one's own, a folder per class, as records (see `episodes.folder`)."""

from functools import cached_property
from typing import ClassVar

from episodes.convert.class_images import ClassImages, ImageFiles
from episodes.convert.origin import Origin
from episodes.convert.raw import RawFile
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, in_order
from episodes.folder import FolderImages
from episodes.protocol import Split


class ClassFolders(RawSource):
    """Every folder is a class, every file in it an image; `splits.json` in it is honoured."""

    origin: ClassVar[Origin] = Origin("own images", "", "", ())
    sizes: ClassVar[tuple[int, int, int]] = (0, 0, 0)
    splits_are_fixed = False

    @cached_property
    def _images(self) -> FolderImages:
        return FolderImages(self.name, self.raw.path)

    def class_names(self) -> list[str]:
        """The folders, in the order of their ids."""
        return list(self._images.spec.class_names)

    def splits(self) -> ClassNames:
        """As for a folder that is read without conversion."""
        spec = self._images.spec
        return {
            split: tuple(spec.class_names[k] for k in spec.split_classes[split]) for split in Split
        }

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """All files of a folder, in the order in which they are read without conversion."""
        listed = self._images
        ids = {name: class_id for class_id, name in enumerate(listed.spec.class_names)}
        classes: list[ClassImages] = []
        for name in in_order(splits):
            count = listed.spec.images_per_class[ids[name]]
            paths = [listed.locate(ids[name], image) for image in range(count)]
            classes.append(ImageFiles(tuple(RawFile(path, path) for path in paths)))
        return classes
