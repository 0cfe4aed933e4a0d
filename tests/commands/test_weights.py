from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.commands.app import Answer, ended, error_line, start, vlsmctl
from tests.commands.hub import COMMIT, Hub, serving
from tests.datasets.fakes import picture, save

REPOSITORY = "CIDAS/clipseg-rd64-refined"
CACHED = Path("models--CIDAS--clipseg-rd64-refined")


def _zero_shot(here: Path, *options: object, code: int = 0) -> Answer:
    if not (here / "scan.png").exists():
        save(here / "scan.png", picture(1))
    asked = ("predict", here / "scan.png", "--model", "clipseg", "--prompt", "polyp", "--out", here / "out")
    return vlsmctl(*asked, "--json", *options, code=code)


def _fingerprint(answer: Answer) -> str:
    (entry,) = answer.document["entries"]
    return str(entry["fingerprint"])


@pytest.mark.parametrize("below", ["", "clipseg", "clipseg-rd64-refined", REPOSITORY])
def test_a_folder_laid_out_as_on_the_hub(
    here: Path, no_cache: Path, small_clipseg: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    shutil.copytree(small_clipseg, here / "weights" / below, dirs_exist_ok=True)
    assert _where(vlsmctl("models", "--json").document) is None
    monkeypatch.setenv("VLSMCTL_WEIGHTS", str(here / "weights"))
    found = _where(vlsmctl("models", "--json").document)
    assert Path(found) == here / "weights" / below
    assert _zero_shot(here).document["counts"]["failed"] == 0


def _where(rows: list[dict[str, Any]]) -> str | None:
    """Where the weights of clipseg lie, in what `vlsmctl models --json` prints."""
    found: str | None = next(row["weights"] for row in rows if row["name"] == "clipseg")
    return found


def test_safetensors_and_bin_are_the_same_model(here: Path, no_cache: Path, small_clipseg: Path) -> None:
    old = here / "old"
    old.mkdir()
    shutil.copy(small_clipseg / "config.json", old)
    torch.save(load_file(small_clipseg / "model.safetensors"), old / "pytorch_model.bin")
    first = _fingerprint(_zero_shot(here, "--weights", small_clipseg))
    assert _zero_shot(here, "--weights", old).document["counts"]["before"] == 1
    assert _fingerprint(_zero_shot(here, "--weights", old, "--overwrite")) == first


def test_the_hub_cache(tmp_path: Path, small_clipseg: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / CACHED / "snapshots" / COMMIT
    shutil.copytree(small_clipseg, snapshot)
    (tmp_path / "hf" / "hub" / CACHED / "refs").mkdir()
    (tmp_path / "hf" / "hub" / CACHED / "refs" / "main").write_text(COMMIT)
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    process = start("models", "--json", cwd=tmp_path, env=env, inherit=False)
    assert Path(str(_where(ended(process).document))) == snapshot


def test_an_incomplete_snapshot_is_not_taken(here: Path, no_cache: Path, small_clipseg: Path) -> None:
    snapshot = no_cache / CACHED / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    shutil.copy(small_clipseg / "config.json", snapshot)
    (no_cache / CACHED / "refs").mkdir()
    (no_cache / CACHED / "refs" / "main").write_text(COMMIT)
    assert "not on this machine" in error_line(_zero_shot(here, code=5))
    shutil.copy(small_clipseg / "model.safetensors", snapshot)
    assert _zero_shot(here).document["counts"]["failed"] == 0


class _Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.trace), 0o777)


@pytest.mark.parametrize("kind", ["zip", "plain", "within"])
def test_a_pickle_with_code_in_it_is_never_run(
    here: Path, small_clipseg: Path, tmp_path: Path, kind: str
) -> None:
    trace, weights = tmp_path / "trace", here / "weights"
    weights.mkdir()
    shutil.copy(small_clipseg / "config.json", weights)
    file = weights / "pytorch_model.bin"
    if kind == "within":
        torch.save({**load_file(small_clipseg / "model.safetensors"), "more": _Bomb(trace)}, file)
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(_Bomb(trace), protocol=2))
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/byteorder", "little")
    else:
        file.write_bytes(pickle.dumps(_Bomb(trace)))
    answer = _zero_shot(here, "--weights", weights, code=2)
    assert "cannot be loaded" in error_line(answer)
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Bomb(trace)))  # noqa: S301  the bomb is a real one
    assert trace.is_dir()


def test_weights_that_do_not_fit_are_refused(here: Path, small_clipseg: Path) -> None:
    tensors = load_file(small_clipseg / "model.safetensors")
    name = next(name for name in tensors if "vision_model" in name and "weight" in name)
    wrong = {
        "less": {key: value for key, value in tensors.items() if key != name},
        "shape": {**tensors, name: torch.zeros(2, 2)},
        "other": {"linear.weight": torch.zeros(3, 3)},
    }
    for kind, content in wrong.items():
        folder = here / kind
        folder.mkdir()
        shutil.copy(small_clipseg / "config.json", folder)
        save_file(content, folder / "model.safetensors", {"format": "pt"})
        answer = _zero_shot(here, "--weights", folder, code=2)
        assert str(folder) in error_line(answer), kind
    assert not (here / "out").exists()


def test_damaged_weights_are_refused(here: Path, small_clipseg: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        folder = here / name.replace(".", "-")
        shutil.copytree(small_clipseg, folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        assert str(folder) in error_line(_zero_shot(here, "--weights", folder, code=2))
    (here / "void").mkdir()
    assert "void" in error_line(_zero_shot(here, "--weights", here / "void", code=5))


def test_what_cannot_be_fetched_or_built(here: Path) -> None:
    answer = vlsmctl("weights", "fetch", "tiny", code=2)
    assert "clipseg" in error_line(answer)
    assert "tiny" in error_line(vlsmctl("weights", "build", "clipseg", code=2))
    assert not any(here.iterdir())


def test_offline_refuses_to_fetch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    answer = vlsmctl("--offline", "weights", "fetch", "clipseg", "--out", "there", code=5)
    assert "--offline" in error_line(answer)
    assert not any(here.iterdir())


def _environment(hub: Hub, home: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "VLSMCTL_WEIGHTS": "", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip


def test_fetch_into_the_cache(here: Path, no_cache: Path, small_clipseg: Path) -> None:
    served = here / "served"
    served.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(small_clipseg / name, served)
    (served / "pytorch_model.bin").write_bytes(b"not to be taken where there are safetensors")
    (served / "README.md").write_text("nor this")
    with serving(Hub(REPOSITORY, served)) as hub:
        env = {**_environment(hub, here / "home"), "HF_HUB_CACHE": str(no_cache)}
        answer = ended(start("--quiet", "weights", "fetch", "clipseg", "--json", cwd=here, env=env))
    assert answer.err == ""
    assert Path(answer.document["folder"]) == no_cache / CACHED / "snapshots" / COMMIT
    fetched = {path.rpartition("/")[2] for _, path, _ in hub.asked if "/resolve/" in path}
    assert fetched == {"config.json", "model.safetensors"}
    assert _where(vlsmctl("models", "--json").document) == answer.document["folder"]
    assert _zero_shot(here).document["counts"]["failed"] == 0


def test_fetch_into_a_folder_over_a_connection_that_breaks(here: Path, small_clipseg: Path) -> None:
    with serving(Hub(REPOSITORY, small_clipseg, cut={"model.safetensors": 1})) as hub:
        env = _environment(hub, here / "home")
        answer = ended(start("weights", "fetch", "clipseg", "--out", "usb", cwd=here, env=env))
    assert "set VLSMCTL_WEIGHTS=usb" in answer.err
    assert Path(answer.out.strip()).resolve() == (here / "usb").resolve()
    fetched, served = (folder / "model.safetensors" for folder in (here / "usb", small_clipseg))
    assert fetched.read_bytes() == served.read_bytes()
    assert [method for method, path, _ in hub.asked if path.endswith("model.safetensors")].count("GET") == 2
    assert _zero_shot(here, "--weights", here / "usb").document["counts"]["failed"] == 0


def test_a_hub_that_says_no(
    here: Path, no_cache: Path, small_clipseg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(Hub(REPOSITORY, small_clipseg, status=404)) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        answer = vlsmctl("weights", "fetch", "clipseg", code=5)
    assert hub.asked
    assert "could not download CIDAS/clipseg-rd64-refined" in error_line(answer)
    assert "404" in error_line(answer)
    assert "VLSMCTL_WEIGHTS=FOLDER here" in answer.err


def test_no_network_is_no_bug(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the hub's library raises where there is no network, some of it without any text."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for raised in (
        type("ConnectError", (Exception,), {})("[Errno 111] refused"),
        TimeoutError(),
        OSError(""),
    ):

        def refuse(*_: object, error: Exception = raised, **__: object) -> None:
            raise error

        monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", refuse)
        answer = vlsmctl("weights", "fetch", "clipseg", code=5)
        assert type(raised).__name__ in error_line(answer)


def test_what_was_downloaded_is_checked(
    here: Path, small_clipseg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    shutil.copy(small_clipseg / "config.json", here)
    save_file({"linear.weight": torch.zeros(3, 3)}, here / "model.safetensors", {"format": "pt"})
    files = [path.name for path in here.iterdir()]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: files)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(here))
    assert "do not fit a CLIPSeg model" in error_line(vlsmctl("weights", "fetch", "clipseg", code=2))


def test_the_base_hash_is_kept_and_renewed(here: Path, small_clipseg: Path, other_clipseg: Path) -> None:
    weights = here / "weights"
    shutil.copytree(small_clipseg, weights)
    first = _fingerprint(_zero_shot(here, "--weights", weights))
    assert json.loads((weights / "vlsmctl-base.json").read_text())["sha256"]
    shutil.copy(other_clipseg / "model.safetensors", weights)
    assert _fingerprint(_zero_shot(here, "--weights", weights)) != first
