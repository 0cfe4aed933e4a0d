from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.datasets.fakes.camus import write_metaimage
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.metaimage import read_metaimage

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
SPACING = (0.5, 0.25, 3.0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    kind=st.sampled_from(["u1", "<i2", ">i2", ">f4", "<u2"]),
    compressed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read(
    tmp_path: Path, shape: list[int], kind: str, compressed: bool, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 120, shape).astype(kind)
    path = write_metaimage(tmp_path / "a.mhd", values, SPACING[: len(shape)], compressed=compressed)
    read = read_metaimage(path)
    assert np.array_equal(read.values, values.reshape((1,) * (3 - len(shape)) + tuple(shape)))
    assert read.spacing == ((3.0 if len(shape) == 3 else 1.0), 0.25, 0.5)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("ElementDataFile", "../secret.raw", "plain name"),
        ("ElementDataFile", "/etc/passwd", "plain name"),
        ("ElementDataFile", "C:\\secret.raw", "plain name"),
        ("ElementDataFile", "sub/a.raw", "plain name"),
        ("ElementDataFile", "..", "plain name"),
        ("ElementDataFile", "LOCAL", "plain name"),
        ("ElementDataFile", "LIST", "plain name"),
        ("ElementDataFile", "a%02d.raw 1 2 1", "plain name"),
        ("ElementDataFile", "", "found none"),
        ("ElementDataFile", "absent.raw", "cannot be read"),
        ("DimSize", "4 3 -2", "whole numbers above 0"),
        ("DimSize", "4 3 2 1", "two or three"),
        ("DimSize", "4 three 2", "numbers"),
        ("DimSize", "4 3", "NDims = 2"),
        ("DimSize", "4 3 inf", "numbers"),
        ("DimSize", "400000 300000 200000", "expected 24000000000000000 bytes"),
        ("DimSize", "4 3 1", "expected 12 bytes of data, found 24"),
        ("ElementSpacing", "1 1", "3 numbers"),
        ("ElementSpacing", "1 1 0", "above 0"),
        ("ElementType", "MET_STRING", "MET_UCHAR"),
        ("ElementNumberOfChannels", "3", "ElementNumberOfChannels = 1"),
        ("HeaderSize", "-1", "HeaderSize = 0"),
        ("BinaryData", "False", "BinaryData = True"),
        ("CompressedData", "perhaps", "True or False"),
    ],
)
def test_refusals(tmp_path: Path, key: str, value: str, says: str) -> None:
    path = write_metaimage(tmp_path / "a.mhd", VALUES, SPACING, keys={key: value})
    with pytest.raises(UnreadableFile, match=says) as caught:
        read_metaimage(path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep", [0, 3, -1])
def test_data_that_were_cut_off(tmp_path: Path, compressed: bool, keep: int) -> None:
    path = write_metaimage(tmp_path / "a.mhd", VALUES, SPACING, compressed=compressed)
    data = path.with_suffix(".zraw" if compressed else ".raw")
    data.write_bytes(data.read_bytes()[:keep])
    with pytest.raises(UnreadableFile, match=r"expected 24 bytes|cannot be read"):
        read_metaimage(path)


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = write_metaimage(tmp_path / "a.mhd", VALUES, SPACING, compressed=True)
    path.with_suffix(".zraw").write_bytes(zlib.compress(bytes(10**7)))
    with pytest.raises(UnreadableFile, match="expected 24 bytes of data, found more"):
        read_metaimage(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x81\xff", b"no header", b"a = b\n" * 20000])
def test_what_is_no_header(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mhd").write_bytes(content)
    with pytest.raises(UnreadableFile, match="not a MetaImage header"):
        read_metaimage(tmp_path / "a.mhd")
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read_metaimage(tmp_path / "absent.mhd")
