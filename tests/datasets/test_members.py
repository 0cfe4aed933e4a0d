from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.datasets.archives import (
    MIB,
    attempt,
    member_of,
    refused,
    tarred,
    written,
    zipped,
    zipped_entries,
)
from vlsmctl.datasets import members
from vlsmctl.datasets.members import Place, wrong_name
from vlsmctl.errors import UnreadableFile, UsageError


def _unix(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


NAMES = {
    "../evil": r"'\.\.'",
    "a/../../evil": r"'\.\.'",
    "a/..": r"'\.\.'",
    "/etc/evil": "absolute",
    "//host/evil": "absolute",
    "C:/evil": "drive",
    "c:evil": "drive",
    "a\\..\\evil": r"name with|'\.\.'",  # zipfile itself makes it a/../evil on Windows
    "\\\\host\\evil": "name with|absolute",
    "ab:stream": "name with",
    "a\x1b[2Jb": "name with",
    "a/AUX.png": "Windows",
    "nul": "Windows",
    "com1 .txt": "Windows",
    "a./b": "Windows",
    "a ": "Windows",
    "f" * 256: "too long",
    "d/" * 600 + "f": "too long",
}


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(("name", "match"), NAMES.items())
def test_a_name_that_leads_elsewhere(
    tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes], name: str, match: str
) -> None:
    refused(tmp_path, pack({"good": b"1", name: b"evil"}), match)


def test_a_name_with_an_end_in_it(tmp_path: Path) -> None:
    """zipfile cuts it there, which makes it another name than other programs see."""
    refused(tmp_path, zipped({"a.exe#.png": b"1"}).replace(b"#", b"\0"), "name with")


def test_names_that_are_fine() -> None:
    for name in ("a", "a/b.c/d..e", "...a", "com", "console.txt", "aux1", "Ä/ß", ".hidden", "./a"):
        assert wrong_name(name) == "", name


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    refused(tmp_path, tarred({"caf\udce9": b"1"}, form=tarfile.GNU_FORMAT), "UTF-8")


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    "names",
    [
        ("a/B.png", "a/b.png"),
        ("A/x", "a/y"),
        ("\u00e4", "a\u0308"),
        ("ß", "SS"),
        ("a", "a/b"),
        ("a/b", "a"),
    ],
)
def test_names_that_collide(
    tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes], names: tuple[str, str]
) -> None:
    refused(tmp_path, pack(dict.fromkeys(names, b"1")), "same name|of that name")


def test_the_same_name_twice(tmp_path: Path) -> None:
    refused(tmp_path, zipped_entries([(zipfile.ZipInfo("a"), b"1")] * 2), "of that name")
    refused(tmp_path, tarred({"a": b"1"}, member_of("a", size=1)), "of that name")


SPECIAL = {
    "symlink": member_of("a", tarfile.SYMTYPE, link="/etc"),
    "hard link": member_of("a", tarfile.LNKTYPE, link="../../b"),
    "character device": member_of("a", tarfile.CHRTYPE),
    "block device": member_of("a", tarfile.BLKTYPE),
    "pipe": member_of("a", tarfile.FIFOTYPE),
    "sparse": member_of("a", tarfile.GNUTYPE_SPARSE),
    "unknown": member_of("a", b"Q"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_tar_members_that_are_no_plain_files(tmp_path: Path, kind: str) -> None:
    match = "a link" if "link" in kind else "neither" if kind in ("sparse", "unknown") else "a device"
    refused(tmp_path, gzip.compress(tarred({"good": b"1"}, SPECIAL[kind])), match)


def test_a_link_and_a_file_through_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = member_of("a", tarfile.SYMTYPE, link=str(tmp_path / "elsewhere"))
    with pytest.raises(UnreadableFile, match="a link"):
        attempt(tmp_path, tarred({}, link, member_of("a/evil", size=1)))
    entries = [(_unix("a", stat.S_IFLNK | 0o777), str(tmp_path / "elsewhere").encode())]
    with pytest.raises(UnreadableFile, match="a link"):
        attempt(tmp_path, zipped_entries([*entries, (zipfile.ZipInfo("a/evil"), b"1")]))
    assert not any((tmp_path / "elsewhere").iterdir())


def test_zip_entries_that_are_devices_or_encrypted_or_strangely_compressed(tmp_path: Path) -> None:
    refused(tmp_path, zipped_entries([(_unix("a", stat.S_IFCHR | 0o666), b"")]), "a device")
    data = bytearray(zipped({"good": b"1", "a": b"secret"}))
    for at, sign in ((6, b"PK\x03\x04"), (8, b"PK\x01\x02")):
        data[data.rindex(sign) + at] |= 1
    refused(tmp_path, bytes(data), "'a': it is encrypted")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(tmp_path, zipped({"a": b"1"}, method), f"method {method}")


def test_what_is_written_is_counted_too(tmp_path: Path) -> None:
    """Whatever an archive announces, and whatever a library lets through."""
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"")
    for allowed, free, error in ((MIB, 10 * MIB, UnreadableFile), (10 * MIB, MIB, UsageError)):
        place = Place(archive, tmp_path, allowed, free)
        path = place.admit("a", 10, False)
        assert path is not None
        with pytest.raises(error):
            place.write("a", io.BytesIO(bytes(5 * MIB)), path, 10)
        assert path.stat().st_size <= MIB
        path.unlink()
    for size in (9, 11):
        with pytest.raises(UnreadableFile, match=f"has 10 bytes, expected {size}"):
            Place(archive, tmp_path, MIB, MIB).write("a", io.BytesIO(bytes(10)), tmp_path / str(size), size)


def test_more_files_than_anybody_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MEMBERS", 50)
    content = {str(number): b"" for number in range(51)}
    for data in (zipped(content), tarred(content)):
        refused(tmp_path, data, "more than 50 files")
    content.popitem()
    assert len(written(attempt(tmp_path, zipped(content)))) == 50
