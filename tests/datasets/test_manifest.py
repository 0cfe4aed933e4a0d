from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vlsmctl.datasets.manifest import INFO, MANIFEST, Record, read_manifest, write_manifest
from vlsmctl.errors import UsageError

RECORD = Record(
    id="ä 1", image="images/a.png", mask="masks/a.png", split="train",
    prompts={"p0": "", "p1": "polyp", "p2": ["one", "two"]}, attributes={"components": 1, "size": "small"},
    group=None, width=64, height=48, foreground=0.25, sha256="00",
)  # fmt: skip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    records = (RECORD, replace(RECORD, id="b", split="test", group="g"))
    write_manifest(tmp_path, records, {"name": "x", "notes": ["µm"]})
    manifest = read_manifest(tmp_path)
    assert manifest.records == records
    assert manifest.info["notes"] == ["µm"]
    assert manifest.info["manifest_hash"] == manifest.hash
    assert [record.id for record in manifest.split("test")] == ["b"]
    with pytest.raises(UsageError, match=r"split='val'.*train \(1\), test \(1\)"):
        manifest.split("val")


def test_an_unprepared_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vlsmctl prepare polyps --raw PATH"):
        read_manifest(tmp_path / "polyps")


def test_without_dataset_json_the_folder_is_not_finished(tmp_path: Path) -> None:
    write_manifest(tmp_path, [RECORD], {})
    (tmp_path / INFO).unlink()
    with pytest.raises(UsageError, match="no manifest"):
        read_manifest(tmp_path)


def test_a_manifest_cut_off_at_a_line_end_is_noticed(tmp_path: Path) -> None:
    write_manifest(tmp_path, [RECORD, replace(RECORD, id="b")], {})
    first = (tmp_path / MANIFEST).read_bytes().split(b"\n")[0]
    (tmp_path / MANIFEST).write_bytes(first + b"\n")
    with pytest.raises(UsageError, match="cut off or changed"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "../secret.png"),
        ("image", "/etc/passwd"),
        ("mask", "C:\\x.png"),
        ("mask", ""),
        ("split", "training"),
        ("width", "64"),
        ("width", True),
        ("prompts", {"p1": 3}),
        ("prompts", {"p1": []}),
        ("group", 4),
    ],
)
def test_a_bad_field_is_named_with_file_and_line(tmp_path: Path, field: str, value: object) -> None:
    good = {**RECORD.__dict__, "id": "first"}
    bad = {**RECORD.__dict__, field: value}
    _write_by_hand(tmp_path, json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(UsageError, match=rf"manifest\.jsonl, line 2: .*{field[:-1]}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("line", ["{", "[1]", '{"id": "a"}', "\x00"])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    _write_by_hand(tmp_path, json.dumps(RECORD.__dict__) + "\n" + line + "\n")
    with pytest.raises(UsageError, match="line 2"):
        read_manifest(tmp_path)


def test_an_id_may_be_there_once(tmp_path: Path) -> None:
    _write_by_hand(tmp_path, 2 * (json.dumps(RECORD.__dict__) + "\n"))
    with pytest.raises(UsageError, match=r"line 2.*twice"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("version", [2, None, "1"])
def test_another_format_version_is_refused(tmp_path: Path, version: object) -> None:
    write_manifest(tmp_path, [RECORD], {})
    (tmp_path / INFO).write_text(json.dumps({"format": version}), encoding="utf-8")
    with pytest.raises(UsageError, match="format version"):
        read_manifest(tmp_path)


def _write_by_hand(folder: Path, lines: str) -> None:
    (folder / MANIFEST).write_bytes(lines.encode())
    (folder / INFO).write_text('{"format": 1}', encoding="utf-8")
