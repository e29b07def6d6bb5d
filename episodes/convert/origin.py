"""Where raw data officially come from: names, licences, files, and links that are known dead."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Download:
    """A file as it is offered.

    Attributes:
        name: of the file, or files.
        size: roughly, for people.
        link: where it is offered.
        landmarks: relative paths that a folder with its content has; one tuple for every form
            in which people have it.
        archives: patterns of the file names of archives that may hold it, in any case.
        state: what is known of the link, when it does not simply work.
        weak: landmarks that other sources may have too: they count where a user names the
            source, and nothing has the proper ones.
    """

    name: str
    size: str
    link: str
    landmarks: tuple[tuple[str, ...], ...]
    archives: tuple[str, ...]
    state: str = ""
    weak: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Origin:
    """A published set of images.

    Attributes:
        title: its name.
        licence: what its publishers say of its use.
        page: its home.
        downloads: the files that a conversion needs.
    """

    title: str
    licence: str
    page: str
    downloads: tuple[Download, ...]

    @property
    def remedy(self) -> str:
        """What to do where the raw data are missing."""
        names = " and ".join(download.name for download in self.downloads)
        return f"Download {names} from {self.page} (`data status` tells more)."
