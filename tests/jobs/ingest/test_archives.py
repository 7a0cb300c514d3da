"""Archives are checked wholly before anything is taken, and never exhaust memory."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.ingest.archives import Limits, Member, check_archive, read_members
from lakehouse.errors import InvalidInputError

KINDS = ("zip", "tar", "tar.gz")
FILES = [("a.jpg", b"first" * 50), ("sub/b ünï 卵.txt", b"second"), ("sub/empty", b"")]


def packed(kind: str, files: list[tuple[str, bytes]]) -> io.BytesIO:
    """An archive of the files, in their order."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files:
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return out
    with tarfile.open(fileobj=out, mode="w:gz" if kind == "tar.gz" else "w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out


def tar_of(*infos: tarfile.TarInfo) -> io.BytesIO:
    """A tar of headers without data."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info in infos:
            archive.addfile(info)
    return out


def kind_of_error(source: Any, limits: Limits | None = None) -> str:
    """The kind with which both the check and the reading refuse the archive."""
    with pytest.raises(InvalidInputError) as checked:
        check_archive(source, limits or Limits())
    with pytest.raises(InvalidInputError) as read:
        list(read_members(source, limits or Limits()))
    assert read.value.kind == checked.value.kind
    return checked.value.kind


def test_each_bad_archive_is_treated_as_its_manifest_entry_says(archive_case: tuple[Path, dict[str, Any]]) -> None:
    """Every archive of the manifest is refused with its code, and the good one is read."""
    path, expect = archive_case
    if expect["action"] == "reject":
        assert kind_of_error(path) == expect["code"].replace("_", "-")
    else:
        members = check_archive(str(path))
        assert [Member(name, len(data)) for name, data in read_members(path)] == members
        assert len(members) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_members_come_in_order_with_their_bytes(kind: str) -> None:
    """Names and bytes come back as they were packed, and the file stays open and usable."""
    source = packed(kind, FILES)
    assert check_archive(source) == [Member(name, len(data)) for name, data in FILES]
    assert list(read_members(source)) == FILES
    assert not source.closed


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_dots_in_paths_are_left_out(kind: str) -> None:
    """Folder entries are no members, and `./a//b` is `a/b`."""
    files = [("./a//b", b"1"), ("./c", b"2")]
    if kind == "zip":
        files.insert(0, ("a/", b""))
    assert list(read_members(packed(kind, files))) == [("a/b", b"1"), ("c", b"2")]
    folder = tarfile.TarInfo("./")
    folder.type = tarfile.DIRTYPE
    assert kind_of_error(tar_of(folder)) == "archive-empty"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "C:/a", "c:a", "a\\..\\b", ".."])
def test_a_path_that_leaves_the_archive_is_refused(kind: str, name: str) -> None:
    """Parent folders, absolute paths, drives and backslashes are refused, whatever stands before them."""
    assert kind_of_error(packed(kind, [("good", b"1"), (name, b"2")])) == "archive-path-escape"


def test_a_nul_that_hides_the_end_of_a_name_is_refused() -> None:
    """A name with a NUL, which the ZIP library would cut, is refused."""
    data = packed("zip", [("good.jpgX.exe", b"1")]).getvalue().replace(b"jpgX", b"jpg\0")
    assert kind_of_error(io.BytesIO(data)) == "archive-path-escape"


def test_a_name_that_is_not_utf8_is_refused() -> None:
    """A tar with a Latin-1 name is refused, for no table could hold that name."""
    data = packed("tar", [("caf\N{LATIN SMALL LETTER E WITH ACUTE}", b"1")]).getvalue()
    with tarfile.open(
        fileobj=(out := io.BytesIO()), mode="w", encoding="latin-1", format=tarfile.GNU_FORMAT
    ) as archive:
        archive.addfile(tarfile.TarInfo("caf\N{LATIN SMALL LETTER E WITH ACUTE}"))
    assert check_archive(io.BytesIO(data))
    assert kind_of_error(out) == "archive-path-encoding"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("second", ["a", "A", "./a"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_names_of_one_file_are_refused(kind: str, second: str) -> None:
    """The same name, also in other case or spelling, is refused."""
    assert kind_of_error(packed(kind, [("a", b"1"), (second, b"2")])) == "archive-duplicate-name"


def test_accents_in_two_forms_name_one_file() -> None:
    """A name with a combining accent and the same with one letter are duplicates."""
    assert kind_of_error(packed("zip", [("e\u0301", b"1"), ("\u00e9", b"2")])) == "archive-duplicate-name"


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(type_: bytes) -> None:
    """Symbolic and hard links, pipes and devices are refused."""
    info = tarfile.TarInfo("link")
    info.type, info.linkname = type_, "/etc/passwd"
    assert kind_of_error(tar_of(info)) == "archive-link"


def test_links_in_a_zip_are_refused() -> None:
    """A symbolic link is known by its Unix mode."""
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert kind_of_error(out) == "archive-link"


def test_encrypted_and_unknown_methods_are_refused() -> None:
    """An encrypted file and a compression method that Python lacks are named as such."""
    data = packed("zip", [("a", b"1" * 100)]).getvalue()
    central = data.index(b"PK\x01\x02")
    encrypted, unknown = bytearray(data), bytearray(data)
    encrypted[central + 8] |= 1
    struct.pack_into("<H", unknown, central + 10, 97)
    assert kind_of_error(io.BytesIO(encrypted)) == "archive-encrypted"
    assert kind_of_error(io.BytesIO(unknown)) == "archive-method"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_within_little_memory(kind: str) -> None:
    """32 MiB of zeros are refused by their ratio before a tenth of them is in memory."""
    source = packed(kind, [("zeros", bytes(32 << 20))])
    tracemalloc.start()
    try:
        assert kind_of_error(source) == "archive-ratio"
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert check_archive(source, Limits(ratio=2000)) == [Member("zeros", 32 << 20)]


def test_many_small_members_count_together() -> None:
    """A bomb spread over many files is refused as well."""
    source = packed("zip", [(f"{i}", bytes(200_000)) for i in range(40)])
    assert kind_of_error(source) == "archive-ratio"


def test_a_declared_size_that_is_a_lie_is_refused() -> None:
    """A ZIP entry that declares fewer or more bytes than it has is corrupt."""
    data = packed("zip", [("a", b"x" * 1000)]).getvalue()
    central = data.index(b"PK\x01\x02")
    for declared in (10, 2000):
        lie = bytearray(data)
        struct.pack_into("<I", lie, central + 24, declared)
        assert kind_of_error(io.BytesIO(lie)) == "archive-corrupt"


@pytest.mark.parametrize("kind", KINDS)
def test_absolute_limits(kind: str) -> None:
    """A file larger than its limit, or one file too many, is refused."""
    source = packed(kind, FILES)
    assert kind_of_error(source, Limits(member_bytes=249)) == "archive-too-large"
    assert kind_of_error(source, Limits(members=2)) == "archive-too-large"
    assert len(check_archive(source, Limits(member_bytes=250, members=3))) == 3


@pytest.mark.parametrize("size", [64 << 20, -512])
def test_a_tar_header_with_an_absurd_length_is_refused(size: int) -> None:
    """A long-name header that claims 64 MiB, or a negative length, neither fills memory nor runs for ever."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 4 + struct.pack(">q", size) if size < 0 else b"%011o\0" % size
    checksum = sum(header[:148]) + 8 * 32 + sum(header[156:512])
    header[148:156] = b"%06o\0 " % checksum
    source = io.BytesIO(gzip.compress(bytes(header) + bytes(64 << 10)))
    assert kind_of_error(source) == "archive-corrupt"


@pytest.mark.parametrize("kind", KINDS)
def test_every_prefix_is_refused(kind: str) -> None:
    """However an archive is cut, it is refused: a cut tar is not taken for a shorter one."""
    data = packed(kind, FILES).getvalue()
    end = len(data) if kind != "tar" else data.rindex(b"second") + 512 + 512  # a tar ends with many blocks of zeros
    for cut in range(0, end, 1 if kind != "tar" else 64):
        with pytest.raises(InvalidInputError):
            check_archive(io.BytesIO(data[:cut]))


def test_a_damaged_header_inside_a_tar_is_refused() -> None:
    """A damaged second header is an error; the tar library alone would take it for the end."""
    data = bytearray(packed("tar", FILES).getvalue())
    data[1024 + 100] ^= 0xFF
    assert kind_of_error(io.BytesIO(data)) == "archive-corrupt"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_damaged_archives_raise_only_our_error(kind: str, data: st.DataObject) -> None:
    """An archive with some bytes overwritten is read or refused, never a crash."""
    damaged = bytearray(packed(kind, FILES).getvalue())
    places = st.integers(0, min(len(damaged), 4096) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        damaged[place] = value
    with suppress(InvalidInputError):
        check_archive(io.BytesIO(damaged))
