"""Real images that come with scikit-learn, written as files: what the demo, the tour and some tests ingest, offline."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import missing_extra

SIDE = 32
"""Pixels of a digit's side: the 8x8 originals, each pixel four times."""
MISLABELLED = 25
"""Digits that the first delivery labels wrongly, every 60th, so that there is something to correct."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the sample files are."""

    first: Path
    """First delivery: 1,700 digits as `train|test/NNNN.png`."""
    second: Path
    """Second delivery: the other 97 digits."""
    labels: Path
    """CSV path,label of the first delivery, with some wrong labels."""
    corrections: Path
    """CSV path,label with the right ones of those."""
    second_labels: Path
    """CSV path,label of the second delivery."""
    photographs: Path
    """Folder with two photographs of 640x427 pixels."""


def write_samples(folder: Path) -> Samples:
    """Write the 1,797 handwritten digits and the sample photographs of scikit-learn below a folder.

    Raises:
        InvalidInputError: scikit-learn or Pillow is not installed (extra-missing).
    """
    try:
        import numpy as np
        import sklearn.datasets
        from PIL import Image
    except ImportError as error:
        raise missing_extra(error.name or "scikit-learn", "demo") from error
    samples = Samples(
        folder / "digits-1",
        folder / "digits-2",
        folder / "labels-1.csv",
        folder / "corrections.csv",
        folder / "labels-2.csv",
        folder / "photographs",
    )
    digits = sklearn.datasets.load_digits()
    labels: list[list[tuple[str, int]]] = [[], []]
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        delivery = 0 if i < 1_700 else 1
        path = f"{'test' if i % 10 == 9 else 'train'}/{i:04d}.png"
        target = (samples.first, samples.second)[delivery] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        grey = (pixels * 255 / 16).astype("uint8")
        Image.fromarray(np.kron(grey, np.ones((SIDE // 8, SIDE // 8), "uint8"))).save(target)
        labels[delivery].append((path, int(label)))
    wrong = dict(labels[0][:: len(labels[0]) // MISLABELLED][:MISLABELLED])
    _write_csv(samples.labels, [(path, (label + 1) % 10 if path in wrong else label) for path, label in labels[0]])
    _write_csv(samples.corrections, list(wrong.items()))
    _write_csv(samples.second_labels, labels[1])
    samples.photographs.mkdir(parents=True, exist_ok=True)
    photographs = sklearn.datasets.load_sample_images()
    for name, pixels in zip(photographs.filenames, photographs.images, strict=True):
        Image.fromarray(pixels).save(samples.photographs / Path(name).name, quality=92)
    return samples


def _write_csv(path: Path, rows: Sequence[tuple[str, int]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows(rows)
