"""Where the base models' weights lie on this machine, how they get there, and how they are told apart."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPSegForImageSegmentation
from transformers.utils import logging as transformers_logging

from vlsmctl.errors import MissingWeights, UsageError
from vlsmctl.files import write_json

REPOSITORIES = {"clipseg": "CIDAS/clipseg-rd64-refined"}
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
HASH_FILE = "vlsmctl-base.json"


def locate(name: str, folder: Path | None = None) -> Path:
    """The folder with `config.json` and the weights of base model `name`.

    Looked for in this order: `folder`; the folder in the environment variable VLSMCTL_WEIGHTS, itself
    or a subfolder called like the model or its repository; the Hugging Face cache. Nothing is
    downloaded. Raises MissingWeights.
    """
    if folder is not None:
        if not _is_complete(folder):
            raise MissingWeights(
                f"weights={str(folder)!r} holds no config.json with {' or '.join(WEIGHT_FILES)}",
                hint=_how_to_get(name) if name in REPOSITORIES else None,
            )
        return folder
    repository = REPOSITORIES[name]
    root = os.environ.get("VLSMCTL_WEIGHTS")
    if root:
        below = ("", name, repository.split("/")[1], repository)
        for candidate in (Path(root) / part for part in below):
            if _is_complete(candidate):
                return candidate
    cached = _in_hub_cache(repository)
    if cached is not None:
        return cached
    looked = f"VLSMCTL_WEIGHTS={root}" if root else "VLSMCTL_WEIGHTS (not set)"
    raise MissingWeights(
        f"the weights of {name!r} ({repository}) are not on this machine; "
        f"looked in {looked} and in the Hugging Face cache",
        hint=_how_to_get(name),
    )


def fetch(name: str, out: Path | None = None) -> Path:
    """Downloads the weights of `name` into the Hugging Face cache, or into `out`; returns the folder.

    Safetensors are taken where the repository has them. A connection that breaks off is taken up again;
    what was whole when a download was stopped is not downloaded again. Nothing partial is left in place.
    Raises MissingWeights.
    """
    from huggingface_hub import HfApi, snapshot_download

    repository = REPOSITORIES[name]
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise MissingWeights(
            f"{repository} is not downloaded: --offline (or HF_HUB_OFFLINE) forbids the network",
            hint=_from_elsewhere(name),
        )
    try:
        files = HfApi().list_repo_files(repository)
        wanted = next((file for file in WEIGHT_FILES if file in files), None)
        if wanted is None:
            raise MissingWeights(f"{repository} holds none of {', '.join(WEIGHT_FILES)}")
        return Path(snapshot_download(repository, allow_patterns=["config.json", wanted], local_dir=out))
    except MissingWeights:
        raise
    except Exception as error:  # the hub's own kinds and those of its HTTP library, which change
        raise MissingWeights(
            f"could not download {repository}: {type(error).__name__}: {_first_line(error)}",
            hint=_from_elsewhere(name),
        ) from error


def load_network(folder: Path) -> CLIPSegForImageSegmentation:
    """The CLIPSeg network of a folder laid out as on the hub, float32, on the CPU.

    Raises UsageError when the files are damaged or do not fit the configuration: transformers would
    go on with random numbers in the place of missing weights.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        network, info = CLIPSegForImageSegmentation.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # transformers raises many kinds for a damaged file
        raise UsageError(f"the weights in {folder} cannot be loaded: {_first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    wrong = [str(entry[0]) for entry in info["mismatched_keys"]]
    if missing or wrong:
        named = ", ".join((missing + wrong)[:3])
        raise UsageError(
            f"the weights in {folder} do not fit a CLIPSeg model: {len(missing)} tensors missing, "
            f"{len(wrong)} of another shape ({named}, ...)"
        )
    return network


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, shapes, dtypes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def base_hash(network: CLIPSegForImageSegmentation, folder: Path) -> str:
    """The hash of the base model, kept beside the weights so that it is computed once.

    Must be called on the network as loaded, before any training.
    """
    file = next(folder / name for name in WEIGHT_FILES if (folder / name).is_file())
    stat = file.stat()
    stamp = {"file": file.name, "size": stat.st_size, "modified_ns": stat.st_mtime_ns}
    kept = folder / HASH_FILE
    with suppress(OSError, ValueError, KeyError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if {key: known[key] for key in stamp} == stamp:
            return str(known["sha256"])
    value = tensors_hash(network.state_dict())
    with suppress(OSError):  # a read-only folder only costs the time
        write_json(kept, {**stamp, "sha256": value})
    return value


def _is_complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in WEIGHT_FILES)


def _in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, "config.json")
    if isinstance(config, str) and _is_complete(Path(config).parent):
        return Path(config).parent
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _how_to_get(name: str) -> str:
    return f"vlsmctl weights fetch {name}\n  or, for a machine without network: {_from_elsewhere(name)}"


def _from_elsewhere(name: str) -> str:
    return (
        f"run `vlsmctl weights fetch {name} --out FOLDER` on a machine with network, copy FOLDER over, and "
        "set VLSMCTL_WEIGHTS=FOLDER here"
    )
