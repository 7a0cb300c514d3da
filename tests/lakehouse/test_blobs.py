"""Assets: written into packs and objects, read back by range, registered in place, and stored once."""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import packs
from lakehouse.blob_index import HashIndex
from lakehouse.blobs import Asset, Location, read_assets, read_one, register, verify_sha256
from lakehouse.errors import FormatError, InvalidInputError, NotFoundError, StorageError
from lakehouse.facts import Facts
from lakehouse.packs import LARGE, PackWriter, _Template
from lakehouse.storage import Overwrite, Storage

SIZES = [0, 1, 511, 512, 513, 10_240, 300_000]


@pytest.fixture
def storage(root_uri: str) -> Storage:
    """The root on each backend in turn."""
    return Storage.open(root_uri)


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    """A root in a folder."""
    return Storage.open(str(tmp_path / "lake"))


def random_bytes(count: int, sizes: list[int], seed: int = 1) -> list[bytes]:
    """Return reproducible contents of the sizes in turn."""
    source = random.Random(seed)
    return [source.randbytes(sizes[at % len(sizes)]) for at in range(count)]


def write(storage: Storage, contents: list[bytes], namespace: str = "main") -> list[Location]:
    """Store the contents and make them durable."""
    with PackWriter(storage, namespace) as pack:
        return [pack.add(data, "jpg") for data in contents]


def keys(storage: Storage) -> list[str]:
    """Return what a listing shows below `_blobs`, without files that are not finished."""
    return sorted(info.key for info in storage.list("_blobs") if not info.key.endswith(".part"))


def rows(locations: list[Location], size: int = 100) -> Iterator[pa.RecordBatch]:
    """Yield the locations as rows of an asset dataset."""
    for first in range(0, len(locations), size):
        some = locations[first : first + size]
        columns: dict[str, list[Any]] = {
            "number": list(range(first, first + len(some))),
            "uri": [place.uri for place in some],
            "offset": [place.offset for place in some],
            "length": [place.length for place in some],
        }
        yield pa.record_batch(columns)


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


# -- writing ------------------------------------------------------------------------------------------------------


def test_pack_is_a_tar_file_that_tarfile_reads(storage: Storage) -> None:
    """A finished pack is a tar file: members in order, opaque numbered names, the bytes at the stated ranges."""
    contents = random_bytes(20, SIZES)
    locations = write(storage, contents)
    [key] = keys(storage)
    assert {place.uri for place in locations} == {key}
    packed = storage.get(key)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
        members = tar.getmembers()
        assert [tar.extractfile(member).read() for member in members] == contents  # type: ignore[union-attr]
    assert [member.name for member in members] == [f"{number:08}.jpg" for number in range(20)]
    assert [(member.offset_data, member.size) for member in members] == [(p.offset, p.length) for p in locations]
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(packs._TIME, 0, 0, 0o644)}
    assert [read_one(storage, p.uri, p.offset, p.length) for p in locations] == contents


def test_pack_streams_as_webdataset_samples(local: Storage) -> None:
    """Read as a stream, each member is a sample of its own: the key before the first dot, the field after it."""
    with PackWriter(local, "main") as pack:
        locations = [pack.add(b"a", "jpg"), pack.add(b"b", "png"), pack.add(b"c", "tar")]
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(local.get(locations[0].uri)), mode="r|") as tar:
        for member in tar:
            name, field = member.name.split(".", 1)
            samples.setdefault(name, {})[field] = tar.extractfile(member).read()  # type: ignore[union-attr]
    assert samples == {"00000000": {"jpg": b"a"}, "00000001": {"png": b"b"}, "00000002": {"tar": b"c"}}


def test_same_assets_make_the_same_pack(local: Storage) -> None:
    """The bytes of a pack depend on nothing but its assets and their order."""
    first, second = (write(local, random_bytes(9, SIZES))[0] for _ in range(2))
    assert first.uri != second.uri
    assert local.get(first.uri) == local.get(second.uri)


@given(st.integers(0, 99_999_999), st.integers(0, LARGE), st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True))
def test_header_says_what_tarfile_reads(number: int, size: int, extension: str) -> None:
    """Every header has a valid checksum and gives back its number, extension and size."""
    info = tarfile.TarInfo.frombuf(_Template(extension).header(number, size), "utf-8", "strict")
    assert (info.name, info.size, info.type) == (f"{number:08}.{extension}", size, tarfile.REGTYPE)


def test_large_asset_is_an_object_of_its_own(storage: Storage) -> None:
    """An asset above the limit is stored whole under its own key, between small ones that share a pack."""
    contents = [b"before", random.Random(2).randbytes(LARGE + 1), b"after"]
    small, large, after = write(storage, contents)
    assert (large.offset, large.length) == (0, LARGE + 1)
    assert large.uri.startswith("_blobs/main/obj-")
    assert small.uri == after.uri
    assert [asset.data for asset in read_assets(storage, rows([small, large, after]), None, 2)] == contents


def test_full_pack_is_followed_by_the_next(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that has reached its size is finished, and each pack is a whole tar file that starts at number 0."""
    monkeypatch.setattr(packs, "PACK", 100_000)
    contents = random_bytes(50, [10_240])
    locations = write(storage, contents)
    assert len(keys(storage)) == 5
    for key in keys(storage):
        with tarfile.open(fileobj=io.BytesIO(storage.get(key))) as tar:
            assert tar.getnames() == [f"{number:08}.jpg" for number in range(10)]
    assert [read_one(storage, p.uri, p.offset, p.length) for p in locations] == contents


def test_nothing_shows_before_flush(storage: Storage) -> None:
    """Bytes that were added show under their key only after flush, and a second flush adds nothing."""
    with PackWriter(storage, "main") as pack:
        pack.add(b"x" * 1_000_000, "bin")
        assert keys(storage) == []
        pack.flush()
        [first] = keys(storage)
        pack.flush()
        assert keys(storage) == [first]
        pack.add(b"y", "bin")
    assert len(keys(storage)) == 2


def test_error_drops_the_unfinished_pack(storage: Storage) -> None:
    """When the caller fails, the pack that it was filling leaves nothing behind; what was flushed stays."""
    pack = PackWriter(storage, "main")
    kept = pack.add(b"kept", "bin")
    pack.flush()
    with pytest.raises(ZeroDivisionError), pack:
        pack.add(b"x" * 1_000_000, "bin").length / 0
    assert [info.key for info in storage.list("_blobs")] == [kept.uri]


def test_flush_tells_of_a_pack_that_could_not_be_finished(local: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that was finished in the background, and failed, fails the flush after it."""
    monkeypatch.setattr(packs, "PACK", 1_000_000)
    with PackWriter(local, "main") as pack:
        pack.add(b"x" * 500_000, "bin")
        [part] = Path(local.root, "_blobs", "main").iterdir()
        part.unlink()
        pack.add(b"x" * 500_000, "bin")
        with pytest.raises(StorageError, match=part.stem):
            pack.flush()
    assert keys(local) == []


KILLED = """
import os, signal, sys
from lakehouse.packs import PackWriter
from lakehouse.storage import Storage
pack = PackWriter(Storage.open(sys.argv[1]), "main")
pack.add(b"flushed", "bin")
pack.flush()
for _ in range(25):
    pack.add(bytes(1 << 20), "bin")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_writer_leaves_no_pack_under_its_key(storage: Storage) -> None:
    """A writer that is killed while it fills a pack leaves only the packs that it had flushed."""
    assert run_script(KILLED, storage.root).returncode == -9
    [key] = keys(storage)
    with tarfile.open(fileobj=io.BytesIO(storage.get(key))) as tar:
        assert tar.getnames() == ["00000000.bin"]


@pytest.mark.parametrize("extension", ["", "JPG", "a/b", "tar.gz", "ü", "x" * 17])
def test_extension_is_checked(local: Storage, extension: str) -> None:
    """An extension that could break a member's name is refused."""
    with PackWriter(local, "main") as pack, pytest.raises(InvalidInputError) as caught:
        pack.add(b"", extension)
    assert caught.value.kind == "extension-invalid"


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [1, 8])
def test_assets_come_in_the_order_of_the_rows(storage: Storage, monkeypatch: pytest.MonkeyPatch, parallel: int) -> None:
    """Shuffled rows over several packs, with empty assets and the same bytes twice, come back in their order."""
    monkeypatch.setattr(packs, "PACK", 2 << 20)
    contents = random_bytes(120, SIZES)
    order = random.Random(3).choices(range(len(contents)), k=250)
    locations = write(storage, contents)
    assert len({place.uri for place in locations}) > 2
    assets = list(read_assets(storage, rows([locations[at] for at in order]), ["number"], parallel))
    assert [asset.data for asset in assets] == [contents[at] for at in order]
    assert [asset.row for asset in assets] == [{"number": number} for number in range(len(order))]


def test_row_carries_the_columns_that_were_asked_for(local: Storage) -> None:
    """No names mean all columns, an empty list means none."""
    [place] = locations = write(local, [b"abc"])
    row = {"number": 0, "uri": place.uri, "offset": place.offset, "length": 3}
    assert list(read_assets(local, rows(locations), None, 1)) == [Asset(row, b"abc")]
    assert list(read_assets(local, rows(locations), [], 1)) == [Asset({}, b"abc")]
    assert list(read_assets(local, iter(()), None, 1)) == []


def test_reading_ahead_is_bounded(local: Storage) -> None:
    """However many threads there are, about 64 MiB of bytes are read ahead, and closing early ends the threads."""
    sparse = Path(local.root) / "sparse"
    sparse.parent.mkdir()
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    taken = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for batch in rows([Location("sparse", at << 20, 1 << 20) for at in range(1024)], size=4):
            taken += batch.num_rows
            yield batch

    assets = read_assets(local, batches(), ["number"], 64)
    assert next(assets).row == {"number": 0}
    assert 60 <= taken <= 72
    assets.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("assets")]


FORKED = """
import os, sys
import pyarrow as pa
from lakehouse.blobs import read_assets
from lakehouse.storage import Storage
storage, uri, length = Storage.open(sys.argv[1]), sys.argv[2], int(sys.argv[3])
row = pa.record_batch({"uri": [uri], "offset": [512], "length": [length]})
read = lambda: list(read_assets(storage, iter([row]), [], 4))
before = read()
child = os.fork()
if child == 0:
    os._exit(0 if read() == before else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_forked_process_reads_assets(storage: Storage) -> None:
    """A process that has read assets can fork, and the child reads them too."""
    [place] = write(storage, [b"abc" * 1000])
    done = run_script(FORKED, storage.root, place.uri, str(place.length))
    assert done.returncode == 0, done.stderr


def test_missing_and_cut_objects_are_told_apart(storage: Storage) -> None:
    """An object that is gone, and one that is shorter than a row says, give errors that name it."""
    storage.put("_blobs/main/cut", b"0123456789", Overwrite())
    assert read_one(storage, "_blobs/main/cut", 5, 5) == b"56789"
    with pytest.raises(FormatError, match=r"_blobs/main/cut ends 2 bytes") as cut:
        read_one(storage, "_blobs/main/cut", 5, 7)
    assert cut.value.kind == "asset-truncated"
    with pytest.raises(NotFoundError, match="_blobs/main/gone") as gone:
        list(read_assets(storage, rows([Location("_blobs/main/gone", 0, 1)]), None, 1))
    assert gone.value.kind == "object-not-found"


@pytest.mark.parametrize(
    ("uri", "offset", "length"),
    [
        ("../secret", 0, 1),
        ("a/../../secret", 0, 1),
        ("/etc/passwd", 0, 1),
        ("http://host/x", 0, 1),
        ("s3://bucket", 0, 1),
        ("", 0, 1),
        (None, 0, 1),
        (7, 0, 1),
        ("a", -1, 1),
        ("a", 0, None),
        ("a", 0, "1"),
    ],
)
def test_senseless_location_is_refused(local: Storage, uri: Any, offset: Any, length: Any) -> None:
    """A table that others wrote may say anything: a location outside the root or without sense is never opened."""
    with pytest.raises(FormatError) as caught:
        read_one(local, uri, offset, length)
    assert caught.value.kind == "asset-location-invalid"


def test_changed_bytes_are_found() -> None:
    """Bytes that are not those of the sha256 are refused with both sides named."""
    verify_sha256(b"abc", hashlib.sha256(b"abc").hexdigest().upper())
    with pytest.raises(FormatError, match=hashlib.sha256(b"abd").hexdigest()) as caught:
        verify_sha256(b"abd", hashlib.sha256(b"abc").hexdigest(), "photo 7")
    assert caught.value.kind == "asset-corrupt"


# -- in place -----------------------------------------------------------------------------------------------------


def test_file_in_place_is_read_by_its_uri(storage: Storage, tmp_path: Path) -> None:
    """A registered file is read where it lies, whatever its name, also beside assets of the root."""
    path = tmp_path / "a folder" / "100% ü#1?.jpg"
    path.parent.mkdir()
    path.write_bytes(b"in place")
    place = register(storage, path)
    assert place == Location(path.as_uri(), 0, 8)
    assert place == register(storage, str(path)) == register(storage, place.uri)
    [stored] = write(storage, [b"stored"])
    assert [a.data for a in read_assets(storage, rows([place, stored, place]), [], 4)] == [
        b"in place",
        b"stored",
        b"in place",
    ]


@pytest.mark.s3
def test_object_in_place_is_read_by_its_uri(s3_uri: str) -> None:
    """An object outside the root is registered by its plain key, and read by its percent-encoded uri."""
    ours, there = Storage.open(f"{s3_uri}/ours"), Storage.open(f"{s3_uri}/there")
    there.put("photos 2026/100% ü.jpg", b"over there", Overwrite())
    place = register(ours, f"{s3_uri}/there/photos 2026/100% ü.jpg")
    assert place == Location(f"{s3_uri}/there/photos%202026/100%25%20%C3%BC.jpg", 0, 10)
    assert read_one(ours, place.uri, 5, 5) == b"there"
    with pytest.raises(NotFoundError) as caught:
        register(ours, f"{s3_uri}/none")
    assert caught.value.kind == "object-not-found"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (".", "asset-not-a-file"),
        ("none.jpg", "object-not-found"),
        ("ftp://x/y", "scheme-unknown"),
        ("s3://x", "scheme-unknown"),
    ],
)
def test_only_files_are_registered(local: Storage, source: str, kind: str) -> None:
    """A folder, a name of nothing, an unknown scheme and a bucket are refused."""
    with pytest.raises((InvalidInputError, NotFoundError)) as caught:
        register(local, source)
    assert caught.value.kind == kind


# -- stored once --------------------------------------------------------------------------------------------------


def digest(number: int) -> bytes:
    """Return a digest like those of real bytes."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def place(number: int) -> Location:
    """Return the location that the tests give to a digest."""
    return Location(f"_blobs/main/pack-{number // 100}.tar", number * 512, number)


def test_index_finds_what_this_run_and_earlier_ones_stored(storage: Storage) -> None:
    """Digests are found before and after they are saved, and by a later run; others are not."""
    facts = Facts(storage, "tester")
    first = HashIndex(facts, "main", "run-1")
    assert first.lookup([digest(1)]) == [None]
    for number in range(300):
        first.remember(digest(number), place(number))
        if number % 100 == 99:
            first.save(("run-1", number))
        elif number == 250:
            assert first.lookup([digest(n) for n in (0, 150, 250, 251)]) == [place(0), place(150), place(250), None]
            assert (first.recent(digest(250)), first.recent(digest(0))) == (place(250), None)
    assert first.pending().num_rows == 0
    wanted = [299, 1000, 0, 0, 77, 2000]
    later = HashIndex(facts, "main", "run-2").lookup([digest(number) for number in wanted])
    assert later == [place(number) if number < 300 else None for number in wanted]


def test_index_keeps_namespaces_apart(local: Storage) -> None:
    """Bytes of one namespace are unknown in another: a duplicate must not reveal what others have."""
    facts = Facts(local, "tester")
    index = HashIndex(facts, "ours", "run-1")
    index.remember(digest(1), place(1))
    index.save(("run-1", 0))
    assert HashIndex(facts, "theirs", "run-2").lookup([digest(1)]) == [None]
    assert HashIndex(facts, "ours", "run-2").lookup([digest(1)]) == [place(1)]


@pytest.mark.parametrize("start", [b"\x00", b"\x7f", b"\x80", b"\xff"])
def test_index_compares_whole_digests(local: Storage, start: bytes) -> None:
    """Digests that share their first 8 bytes are different digests, on both sides of the sign."""
    known, other = start * 8 + b"a" * 24, start * 8 + b"b" * 24
    facts = Facts(local, "tester")
    index = HashIndex(facts, "main", "run-1")
    index.remember(known, place(1))
    index.save(("run-1", 0))
    assert index.lookup([other, known]) == HashIndex(facts, "main", "run-2").lookup([other, known]) == [None, place(1)]


def test_index_row_says_what_was_stored(local: Storage) -> None:
    """A pending row carries the namespace, the signed prefix, the hash in hexadecimal digits, the place and the run."""
    index = HashIndex(Facts(local, "tester"), "main", "run-1")
    index.remember(b"\xff" * 7 + b"\xfe" + bytes(24), Location("k", 512, 3))
    [row] = index.pending().to_pylist()
    sha256 = "ff" * 7 + "fe" + "00" * 24
    assert row == {
        "namespace": "main", "prefix": -2, "sha256": sha256, "uri": "k", "offset": 512, "length": 3, "run": "run-1"
    }  # fmt: skip


def test_index_needs_few_bytes_an_asset(local: Storage) -> None:
    """A run over a large namespace holds about 8 bytes for each asset that is known."""
    count = 100_000
    facts = Facts(local, "tester")
    writer = HashIndex(facts, "main", "run-1")
    for number in range(count):
        writer.remember(digest(number), Location("_blobs/main/pack-0.tar", number, 1))
    writer.save(("run-1", 0))
    facts.snapshot("blobs")
    tracemalloc.start()
    try:
        index = HashIndex(facts, "main", "run-2")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * count
    found = index.lookup([digest(number) for number in range(count - 2500, count + 2500)])
    assert [place is None for place in found] == [False] * 2500 + [True] * 2500
