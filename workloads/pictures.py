"""Labelled pictures of any size in a folder, decoded and preprocessed when asked for."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workloads.base import Samples
from workloads.datasets import data_folder

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 1 << 26
"""A picture that claims to have more is damage or malice."""

Prepare = Callable[[Image.Image], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Pictures as files or as their contents; indexing gives float32 ``[B, C, H, W]``.

    Parameters
    ----------
    sources
        Paths, or encoded contents.
    names
        For messages.
    prepare
        From a PIL image to a tensor or array ``[C, H, W]``.
    """

    sources: tuple[Path | bytes, ...]
    names: tuple[str, ...]
    prepare: Prepare

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.sources)

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """Return the pictures at ``indices``, preprocessed."""
        return np.stack([self._one(int(index)) for index in indices])

    def _one(self, index: int) -> np.ndarray:
        source, name = self.sources[index], self.names[index]
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"it claims {picture.width} x {picture.height} pixels")
                return np.asarray(self.prepare(picture.convert("RGB")), dtype=np.float32)
        except Exception as error:  # damaged bytes make the decoder raise many things
            raise ValueError(
                f"picture {name} must be a whole JPEG or PNG ({' '.join(str(error).split())[:100]}); fetch it again"
            ) from None


def labelled_pictures(data: Path | None, classes: int, prepare: Prepare) -> Samples:
    """Return pictures with their class ids.

    Parameters
    ----------
    data
        A folder with a folder per class (class ids alphabetical, as torchvision has them), itself or in ``val/``; or
        with ``imagenet/nips2017_224.tar``.
    classes
        Number of classes that the network tells apart.
    prepare
        Preprocessing of one picture.

    Raises
    ------
    ValueError
        If there are none, or the class folders are not as many as the classes.
    """
    folder = data_folder(data, "val", "a network for pictures")
    archive = data_folder(data, "imagenet", "a network for pictures") / "nips2017_224.tar"
    if archive.is_file():
        from workloads.imagenet import picture_samples

        stored = picture_samples(archive.parent)
        encoded = stored.x
        pictures = Pictures(sources=encoded.contents, names=encoded.names, prepare=prepare)  # type: ignore[attr-defined]
        return Samples(x=pictures, y=stored.y)
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(found) != classes:
        raise ValueError(
            f"data folder {folder} must have one folder per class, {classes} (got {len(found)}); give --data DIR with "
            "val/CLASS/PICTURE.jpg for all classes, empty folders included"
        )
    files = [
        (path, label) for label, inner in enumerate(found) for path in sorted(inner.iterdir())
        if path.suffix.lower() in SUFFIXES
    ]  # fmt: skip
    if not files:
        raise ValueError(f"data folder {folder} must hold pictures ({', '.join(SUFFIXES)}) (got none); check the path")
    pictures = Pictures(
        sources=tuple(path for path, _ in files), names=tuple(str(path) for path, _ in files), prepare=prepare
    )
    return Samples(x=pictures, y=np.array([label for _, label in files], dtype=np.int64))
