from __future__ import annotations

import gzip
import io
import stat
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.datasets.archives import (
    COMPRESS,
    CONTENT,
    MIB,
    NOISE,
    attempt,
    member_of,
    refused,
    tarred,
    written,
    zipped,
)
from vlsmctl.datasets.unpack import unpack
from vlsmctl.errors import UsageError

T = TypeVar("T")


@pytest.mark.parametrize("kind", ["zip", "stored zip", *COMPRESS, "gnu tar", "ustar tar"])
def test_round_trip(tmp_path: Path, kind: str) -> None:
    if kind.endswith("zip"):
        data = zipped(CONTENT, zipfile.ZIP_STORED if kind == "stored zip" else zipfile.ZIP_DEFLATED)
    elif kind in COMPRESS:
        data = COMPRESS[kind](tarred(CONTENT))
    else:
        form = tarfile.GNU_FORMAT if kind == "gnu tar" else tarfile.USTAR_FORMAT
        data = tarred(CONTENT, form=form)
    folder = attempt(tmp_path, data)
    assert written(folder) == CONTENT
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o7100 for path in folder.rglob("*.png"))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, None])
def test_folders_named_again_empty_folders_and_long_names(tmp_path: Path, form: int | None) -> None:
    long = "/".join(["d" * 80] * 3) + f"/{'f' * 120}.png"
    content = {"./set/a": b"1", long: b"2"}
    if form is None:
        data = zipped({"empty/": b"", "set/": b"", **content, "./": b""})
    else:
        folders = [member_of(name, tarfile.DIRTYPE) for name in ("./", "empty", "./set")]
        data = tarred(content, *folders, form=form)
    folder = attempt(tmp_path, data)
    assert written(folder) == {"set/a": b"1", long: b"2"}
    assert sorted(path.name for path in folder.iterdir()) == sorted(["d" * 80, "empty", "set"])


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_what_macos_adds_is_left_out_and_archives_within_stay(
    tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    litter = ("__MACOSX/set/._a", "set/.DS_Store", "set/._a", "set/Icon\r")
    inner = zipped({"../x": b"1"})
    folder = attempt(tmp_path, pack({"set/a": b"1", "b.zip": inner, **dict.fromkeys(litter, b"litter")}))
    assert written(folder) == {"set/a": b"1", "b.zip": inner}


def test_several_streams_one_after_the_other(tmp_path: Path) -> None:
    """As parallel compressors write them; xz also pads between them."""
    data = tarred(CONTENT)
    for kind, pad in (("tar.gz", b""), ("tar.bz2", b""), ("tar.xz", bytes(8))):
        compress = COMPRESS[kind]
        (tmp_path / kind).mkdir()
        folder = attempt(tmp_path / kind, compress(data[:700]) + pad + compress(data[700:]) + pad)
        assert written(folder) == CONTENT


def _ten_gigabytes(name: str) -> bytes:
    """A tar.gz of 10 GB of zeros, with every size and checksum right, in about 10 MB."""
    head = member_of(name, size=10_000 * MIB).tobuf(tarfile.GNU_FORMAT)
    zeros = gzip.compress(bytes(MIB))
    return gzip.compress(head) + zeros * 10_000 + gzip.compress(bytes(20 * 512))


def _ten_gigabytes_zipped(announced: int) -> bytes:
    """A zip of a stream of 10 GB of zeros that is said to be that long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    stream = first + more * 9_999 + packer.flush()
    data = bytearray(zipped({"zeros.png": stream}, zipfile.ZIP_STORED))
    for at, sign in ((8, b"PK\x03\x04"), (10, b"PK\x01\x02")):
        start = data.index(sign) if at == 8 else data.rindex(sign)
        data[start + at] = zipfile.ZIP_DEFLATED
        data[start + at + 14 : start + at + 18] = announced.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: _ten_gigabytes("zeros.png"), "as in a bomb"),
        (lambda: _ten_gigabytes("._zeros.png"), "as in a bomb"),  # not even as litter
        (lambda: _ten_gigabytes_zipped((4 << 30) - 1), "as in a bomb"),
        (lambda: _ten_gigabytes_zipped(5 * MIB), "damaged.*zeros.png.*CRC"),
    ],
    ids=["tar", "litter", "zip", "lying zip"],
)
def test_ten_gigabytes_of_zeros(tmp_path: Path, make: Callable[[], bytes], match: str) -> None:
    bomb = make()
    assert len(bomb) < 15e6
    started = time.monotonic()
    tracemalloc.start()
    try:
        refused(tmp_path, bomb, match)
        assert tracemalloc.get_traced_memory()[1] < 40 * MIB
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 20  # it takes a fraction of a second


def test_many_files_that_are_a_bomb_together(tmp_path: Path) -> None:
    content = {f"{number}": bytes(MIB) for number in range(10)}
    for data in (zipped(content), gzip.compress(tarred(content))):
        refused(tmp_path, data, "bomb", limit=10 * MIB - 1)
    assert len(written(attempt(tmp_path, zipped(content), limit=10 * MIB))) == 10


def test_a_tar_whose_comments_are_the_bomb(tmp_path: Path) -> None:
    """tarfile would read a name or a comment of a gigabyte into memory."""
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        head = gzip.compress(member_of("x", kind, size=1000 * MIB).tobuf(tarfile.GNU_FORMAT))
        tracemalloc.start()
        refused(tmp_path, head + gzip.compress(bytes(MIB)) * 1000, "that are no file")
        assert tracemalloc.get_traced_memory()[1] < 40 * MIB
        tracemalloc.stop()


def test_a_chain_of_long_names(tmp_path: Path) -> None:
    link = member_of("x", tarfile.GNUTYPE_LONGNAME, size=512).tobuf(tarfile.GNU_FORMAT) + b"a" * 512
    refused(tmp_path, gzip.compress(link * 3000), "damaged")


def test_a_zip_with_a_huge_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlsmctl.datasets.unpack.MEMBERS", 3)
    data = zipped({str(number): b"" for number in range(50)})
    monkeypatch.setattr("zipfile.ZipFile", None)
    refused(tmp_path, data, "more than 3 files")


def test_no_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5000}))
    refused(tmp_path, zipped(CONTENT), "are free", error=UsageError)


@pytest.mark.parametrize("kind", ["zip", *COMPRESS])
def test_truncated_at_every_place(tmp_path: Path, kind: str) -> None:
    content = {"a.png": NOISE[:20_000], "b.png": NOISE[20_000:120_000]}
    data = zipped(content) if kind == "zip" else COMPRESS[kind](tarred(content))
    places = {round(len(data) * tenth / 10) for tenth in range(10)} | {len(data) - 4}
    if kind == "tar":  # between the parts of it; from 121,856 bytes on there is only filling
        places = {place for place in places if place < 121_856} | {512, 20_992, 21_504, 121_856}
    for place in sorted(places):
        refused(tmp_path, data[:place], "damaged or not whole")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_changed_byte_is_noticed(tmp_path: Path, kind: str) -> None:
    content = {"a.png": NOISE[:20_000], "b.png": NOISE[20_000:120_000]}
    data = zipped(content, zipfile.ZIP_STORED) if kind == "zip" else COMPRESS[kind](tarred(content))
    tenths = [len(data) * tenth // 10 for tenth in range(1, 9)]
    for place in tenths if kind == "zip" else [*tenths, len(data) - 6]:
        broken = bytearray(data)
        broken[place] ^= 0x55
        refused(tmp_path, bytes(broken), "damaged or not whole")


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    """For tarfile it is, and what comes after it is silently missing."""
    data = bytearray(tarred({"a": b"1", "b": b"2", "c": b"3"}, form=tarfile.GNU_FORMAT))
    data[1024 + 150] ^= 1  # the checksum of b
    refused(tmp_path, bytes(data), "damaged or not whole")


def test_what_is_no_archive(tmp_path: Path) -> None:
    for data, match in (
        (b"", "it is empty"),
        (b"<!DOCTYPE html><title>Log in</title>", "begins with b'<!DOCTYPE"),
        (b"PK\x03\x04 and nothing more", "damaged"),
        (gzip.compress(NOISE[:5000]), "damaged"),
        (bytes(4096), "begins with"),
    ):
        refused(tmp_path, data, match)
    for head, kind in ((b"Rar!\x1a\x07\x01\x00", "RAR"), (b"7z\xbc\xaf\x27\x1c\x00", "7z")):
        with pytest.raises(UsageError, match=f"{kind} archive") as caught:
            attempt(tmp_path, head + bytes(100))
        assert str(tmp_path / "out" / "set") in str(caught.value.hint)
    with pytest.raises(UsageError, match="no archive at"):
        unpack(tmp_path / "missing.zip", tmp_path / "set")


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    target = tmp_path / "out" / "set"
    target.parent.mkdir()
    if there == "folder":
        target.mkdir()
    elif there == "file":
        target.write_text("mine")
    else:
        try:
            target.symlink_to(tmp_path / "nowhere")
        except OSError:
            pytest.skip("links are not allowed here")
    with pytest.raises(UsageError, match="is there already"):
        attempt(tmp_path, zipped(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("kind", ["zip", *COMPRESS])
def test_stopped_leaves_nothing(tmp_path: Path, kind: str) -> None:
    content = {str(number): NOISE[number * MIB :][:MIB] for number in range(4)}
    data = zipped(content) if kind == "zip" else COMPRESS[kind](tarred(content))
    (tmp_path / "a").write_bytes(data)
    told: list[tuple[str, int | None]] = []

    def stopping(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        told.append((description, total))
        for number, item in enumerate(items):
            if number == 2:
                assert any((tmp_path / "out").rglob("1"))
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / "a", tmp_path / "out" / "set", progress=stopping)
    assert not any((tmp_path / "out").iterdir())
    ((description, total),) = told
    assert description.startswith("unpacking a")
    assert total is not None
    assert total >= 4


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        peaks = []
        for count in (100, 2000):
            stream = io.BytesIO(gzip.compress(tarred({f"d/{number}": b"1" for number in range(count)})))
            (tmp_path / "a").write_bytes(stream.getvalue())
            del stream
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            unpack(tmp_path / "a", tmp_path / str(count))
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1900 * 600  # bytes; tarfile alone would keep some thousand a file
