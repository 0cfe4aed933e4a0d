"""Raw data that is not a folder yet, as a user meets it: downloads, archives, MedVLSM's annotations."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.commands.app import error_line, vlsmctl
from tests.datasets import fakes
from tests.datasets.archives import zipped
from tests.datasets.fakes import clinicdb, kvasir
from tests.datasets.file_server import Server, serving
from vlsmctl.datasets import obtaining
from vlsmctl.datasets.download import Download
from vlsmctl.datasets.kinds import DATASETS
from vlsmctl.datasets.manifest import read_manifest


def zip_of(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def offered(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes) -> None:
    """Kvasir-SEG comes from a server on this machine."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    download = Download(url, "kvasir-seg.zip", sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(DATASETS, "kvasir", replace(DATASETS["kvasir"], downloads=(download,)))


def test_terms_come_before_a_download_and_a_second_run_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvasir.write(tmp_path / "theirs")
    content = zip_of(tmp_path / "theirs", tmp_path / "kvasir.zip").read_bytes()
    server = Server(content=content, breaks=[len(content) // 3])
    out = tmp_path / "data"
    with serving(server) as url:
        offered(monkeypatch, url, content)
        refused = vlsmctl("prepare", "kvasir", "--download", "--out", out, code=2)
        assert "research and education" in refused.err.lower()
        assert "--accept-terms" in refused.err
        assert server.asked == []
        vlsmctl("prepare", "kvasir", "--download", "--accept-terms", "--out", out)
        asked = len(server.asked)
        vlsmctl("prepare", "kvasir", "--download", "--accept-terms", "--out", out)
        assert len(server.asked) == asked == 2
    assert read_manifest(out / "kvasir").info["kind"] == "kvasir"
    vlsmctl("prepare", "kvasir", "--out", out)  # what was downloaded is found where it was put
    planned = vlsmctl("prepare", "--out", out, "--plan", "--json").document
    assert [root["name"] for root in planned["recognised"]] == ["kvasir"]


def test_what_may_not_be_downloaded_is_told_where_to_get_and_where_to_put(tmp_path: Path) -> None:
    refused = vlsmctl("prepare", "bkai", "--download", "--accept-terms", "--out", tmp_path / "data", code=2)
    assert "https://www.kaggle.com/c/bkai-igh-neopolyp" in refused.err
    assert f"put it into {tmp_path / 'data' / 'raw' / 'bkai'}\n" in refused.err
    assert "--download" in vlsmctl("prepare", "isic2016", "--out", tmp_path / "data", code=2).err


def test_offline_forbids_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server()) as url:
        offered(monkeypatch, url, b"")
        refused = vlsmctl(
            "--offline", "prepare", "kvasir", "--download", "--accept-terms", "--out", tmp_path, code=2
        )
    assert "--offline forbids the network" in error_line(refused)


def test_a_plan_neither_downloads_nor_unpacks(tmp_path: Path) -> None:
    archive = tmp_path / "kvasir-seg.zip"
    archive.write_bytes(zipped({"images/a.png": b"a"}))
    out = tmp_path / "data"
    told = vlsmctl("prepare", "kvasir", "--download", "--plan", "--out", out, code=2)
    assert "https://datasets.simula.no" in error_line(told)
    vlsmctl("prepare", "--raw", archive, "--plan", "--out", out, code=2)
    assert not out.exists()


def test_a_damaged_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server()) as url:
        offered(monkeypatch, url, b"another file")
        refused = vlsmctl(
            "prepare", "kvasir", "--download", "--accept-terms", "--out", tmp_path / "data", code=3
        )
    assert "sha256" in error_line(refused)
    assert not list((tmp_path / "data").rglob("*.zip"))


def test_archives_can_be_named_and_are_told_apart(tmp_path: Path) -> None:
    out = tmp_path / "data"
    fakes.generic(tmp_path / "one", count=8)
    fakes.generic(tmp_path / "two", count=9)
    for name in ("one", "two"):
        (tmp_path / f"{name}zip").mkdir()
        archive = zip_of(
            tmp_path / name, tmp_path / f"{name}zip" / "archive.zip"
        )  # as Kaggle calls them all
        vlsmctl("prepare", name, "--raw", archive, "--out", out, "--class", "polyp")
    assert [len(read_manifest(out / name).records) for name in ("one", "two")] == [8, 9]
    unpacked = list((out / "raw").iterdir())
    vlsmctl("prepare", "two", "--raw", archive, "--out", out, "--class", "polyp")
    assert list((out / "raw").iterdir()) == unpacked  # once is enough
    fakes.generic(tmp_path / "two", count=10)
    zip_of(tmp_path / "two", archive)  # a newer one of the same name
    vlsmctl("prepare", "two", "--raw", archive, "--out", out, "--class", "polyp")
    assert len(read_manifest(out / "two").records) == 10


def test_an_archive_of_a_known_set_needs_no_name(tmp_path: Path) -> None:
    kvasir.write(tmp_path / "theirs")
    archive = zip_of(tmp_path / "theirs", tmp_path / "anything.zip")
    vlsmctl("prepare", "--raw", archive, "--out", tmp_path / "data")
    assert read_manifest(tmp_path / "data" / "kvasir").records
    refused = vlsmctl("prepare", "kvasir", "--raw", tmp_path / "kvasir.csv", "--out", tmp_path, code=2)
    assert "found nothing" in refused.err


@pytest.mark.parametrize(
    ("name", "told"),
    [("../evil.png", "'..'"), ("/etc/evil.png", "absolute"), ("C:/evil.png", "drive letter")],
)
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path: Path, name: str, told: str) -> None:
    archive = tmp_path / "kvasir-seg.zip"
    archive.write_bytes(zipped({"images/a.png": b"a", name: b"evil"}))
    refused = vlsmctl("prepare", "kvasir", "--raw", archive, "--out", tmp_path / "data", code=3)
    assert told in error_line(refused)
    assert not list(tmp_path.rglob("evil.png"))
    assert not list((tmp_path / "data").rglob("*.png"))


def annotations_of(root: Path) -> dict[str, bytes]:
    """Annotation files for a fake of ClinicDB, as MedVLSM would have them: by frame, whatever the video."""
    names = sorted((path.stem for path in root.rglob("Original/*.tif")), key=int)
    parts: dict[str, list[str]] = {"train": names[0::3], "val": names[1::3], "test": names[2::3]}
    return {
        part: json.dumps(
            [
                {
                    "bbox": [1, 1, 9, 9], "cat": 0, "segment_id": name, "img_name": f"{name}.png",
                    "mask_name": f"{name}.png", "sentences": [{"idx": 0, "sent_id": 0, "sent": ""}],
                    "prompts": {"p0": "", "p1": "polyp", "p2": ["white polyp", "a white polyp"]},
                }
                for name in chosen
            ]
        ).encode()
        for part, chosen in parts.items()
    }  # fmt: skip


def test_medvlsms_annotations_are_downloaded_when_the_user_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = clinicdb.write(tmp_path / "raw"), tmp_path / "data"
    files = annotations_of(raw)
    asked = ("prepare", "clinicdb", "--raw", raw, "--out", out, "--protocol", "medvlsm")
    refused = vlsmctl(*asked, code=2)
    assert "MIT" in refused.err
    assert "--annotations DIR" in refused.err

    def fetched(download: Download, folder: Path) -> Path:
        assert download.url.endswith(f"/data/clinicdb_polyp/anns/{download.name}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / download.name).write_bytes(files[Path(download.name).stem])
        return folder / download.name

    monkeypatch.setattr(obtaining, "_fetched", fetched)
    document = vlsmctl(*asked, "--accept-terms", "--json").document["datasets"][0]
    manifest = read_manifest(out / "clinicdb")
    assert manifest.records[0].prompts["p2"] == ["white polyp", "a white polyp"]
    assert set(manifest.info["annotations"]["sha256"]) == {"train.json", "val.json", "test.json"}
    assert any("also in train" in text for text in document["warnings"])  # a split by frame leaks
    again = vlsmctl(*asked, "--annotations", out / "raw" / "medvlsm", "--json").document["datasets"][0]
    assert again["counts"] == document["counts"]
