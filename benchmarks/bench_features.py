"""Image features against a plain Pillow + imagehash + NumPy loop, and against decoding alone. One core each.

Prints a line a figure and exits with 1 when a target is missed. Uses the shared sample data beside the repository
(or in LAKEHOUSE_TEST_DATA); without it, scikit-learn's sample photographs and digits stand in.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import imagehash
import numpy as np
from _timing import compare
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from jobs.features.image import compute_batch

Row = tuple[object, ...]


def plain_loop(blobs: list[bytes]) -> list[Row]:
    """The same features as anybody would first write them; decoded once, and grey converted once for sharpness."""
    rows: list[Row] = []
    for blob in blobs:
        image = Image.open(io.BytesIO(blob))
        pixels = np.asarray(image, dtype=float)
        mean, std = pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))
        g = np.asarray(image.convert("L"), dtype=float)
        laplacian = g[1:-1, :-2] + g[1:-1, 2:] + g[:-2, 1:-1] + g[2:, 1:-1] - 4 * g[1:-1, 1:-1]
        phash = str(imagehash.phash(image))
        rows.append((image.format, image.width, image.height, image.mode, phash, mean, std, laplacian.var()))
    return rows


def decode(blobs: list[bytes]) -> None:
    """The limit: decode each image and do nothing with it."""
    for blob in blobs:
        Image.open(io.BytesIO(blob)).load()


def encode(image: Image.Image, format_: str) -> bytes:
    """The bytes of an image."""
    out = io.BytesIO()
    image.save(out, format_)
    return out.getvalue()


def corpora() -> Iterator[tuple[str, list[bytes]]]:
    """(name, encoded images) of each corpus."""
    data = Path(os.environ.get("LAKEHOUSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if data.is_dir():
        frames = sorted((data / "yolo-egg-grading" / "train" / "images").iterdir())[:60]
        photographs = sorted((data / "captions-historic-photos" / "images").glob("*/*"))[::4]
        with gzip.open(data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz") as file:
            small = np.frombuffer(file.read(16 + 784 * 2000)[16:], np.uint8).reshape(-1, 28, 28)
        yield "640x640 JPEG", [path.read_bytes() for path in frames]
        yield "photographs", [path.read_bytes() for path in photographs]
    else:
        large = [Image.fromarray(pixels) for pixels in load_sample_images().images] * 15
        small = np.kron(load_digits().images * 15, np.ones((1, 4, 4)))[:, 2:-2, 2:-2].astype(np.uint8)
        yield "640x640 JPEG", [encode(image.resize((640, 640)), "JPEG") for image in large]
        yield "photographs", [encode(image, "JPEG") for image in large]
    yield "28x28 PNG", [encode(Image.fromarray(pixels), "PNG") for pixels in small]


def main() -> int:
    """Compare on each corpus, after checking that both ways agree."""
    results = []
    for name, blobs in corpora():
        ours = compute_batch(blobs).rows
        plain = plain_loop(blobs)
        if ours["phash"].to_pylist() != [row[4] for row in plain]:
            raise SystemExit(f"{name}: the hashes differ")
        for column, index in (("mean_g", 5), ("std_g", 6), ("sharpness", 7)):
            np.testing.assert_allclose(ours[column], [np.ravel(row[index])[-2:][0] for row in plain], atol=1e-6)
        print(f"{name}: {len(blobs):,} images, all hashes equal")
        loop, limit = (lambda b=blobs: plain_loop(b)), (lambda b=blobs: decode(b))
        run = lambda b=blobs: compute_batch(b)  # noqa: E731
        results.append(compare(f"  features vs plain loop, {name}", run, {"plain loop": loop}, 9, ">= 3x"))
        results.append(compare(f"  features vs decoding alone, {name}", run, {"decoding": limit}, 9))
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
