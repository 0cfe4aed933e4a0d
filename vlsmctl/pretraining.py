"""Pretrains the embedded tiny model on the procedural corpus, from nothing and seeded.

Each picture is shown once and asked several prompts, so that within one batch the text alone tells
the masks of a picture apart. Two linear heads help it to learn shapes and places, which otherwise come
late: one names, for each patch, the attributes of the object there; one names what a prompt asks for.
They are dropped at the end.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from vlsmctl.datasets.shapes import VOCABULARY, Scene, generator, make_choice, make_query, make_scene
from vlsmctl.files import atomic_path, write_json, write_text
from vlsmctl.losses import dice_ce
from vlsmctl.models.clipseg import ClipSeg, fresh
from vlsmctl.models.tiny import IMAGE_SIZE, PATCH_SIZE, tiny_config
from vlsmctl.models.tokens import distinct, tokenize
from vlsmctl.preprocessing import normalise

HELD_OUT_SEED_OFFSET = 1_000_003  # held-out pictures come from another stream than training ones
EMA_DECAY = 0.999
HINT_WEIGHT = 0.25


class ShapesDataset(Dataset[dict[str, Any]]):
    """Sample i: `image` uint8 [S, S, 3], `masks` bool [Q, S, S], `prompts` of length Q; `seen` int64
    [4, P, P], for each patch the number of each attribute's word in VOCABULARY, -1 where no object is;
    `asked` int64 [Q, 4], likewise for each prompt, the vocabulary's length where it does not say."""

    def __init__(self, seed: int, length: int, queries: int, absent: float = 0.2) -> None:
        self.seed, self.length, self.queries, self.absent = seed, length, queries, absent

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = generator(self.seed, index)
        scene = make_scene(rng, IMAGE_SIZE)
        first = int(rng.integers(len(scene.things)))
        asked = [
            make_query(rng, scene, (first + number) % len(scene.things), absent=rng.random() < self.absent)
            for number in range(self.queries)
        ]
        return {
            "image": scene.image,
            "masks": np.stack([query.mask for query in asked]),
            "prompts": [query.prompt for query in asked],
            "seen": _seen(scene),
            "asked": np.array(
                [[_word_number(key, query.asked.get(key)) for key in VOCABULARY] for query in asked]
            ),
        }


def _word_number(key: str, word: str | None) -> int:
    return VOCABULARY[key].index(word) if word is not None else len(VOCABULARY[key])


def _seen(scene: Scene) -> NDArray[np.int64]:
    side = IMAGE_SIZE // PATCH_SIZE
    seen = np.full((len(VOCABULARY), side, side), -1)
    for thing in scene.things:
        covered = thing.mask.reshape(side, PATCH_SIZE, side, PATCH_SIZE).mean((1, 3)) > 0.3
        for number, key in enumerate(VOCABULARY):
            seen[number][covered] = _word_number(key, getattr(thing, key))
    return seen


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks samples: `image` uint8 [B, 3, S, S], `masks` bool [B * Q, 1, S, S], `prompts` and `asked` of
    length B * Q, `seen` [B, 4, P, P]."""
    image = torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.concatenate([sample["masks"] for sample in samples])).unsqueeze(1)
    prompts = [prompt for sample in samples for prompt in sample["prompts"]]
    seen = torch.from_numpy(np.stack([sample["seen"] for sample in samples]))
    asked = torch.from_numpy(np.concatenate([sample["asked"] for sample in samples]))
    return {"image": image.contiguous(), "masks": masks, "prompts": prompts, "seen": seen, "asked": asked}


class Hints(nn.Module):
    """The two helping heads. Losses are cross-entropies, mean over the four attributes."""

    def __init__(self, vision_width: int, condition_width: int) -> None:
        super().__init__()
        self.sizes = [len(words) for words in VOCABULARY.values()]
        self.patch = nn.Linear(vision_width, sum(self.sizes))
        self.prompt = nn.Linear(condition_width, sum(self.sizes) + len(self.sizes))

    def forward(self, hidden: Tensor, condition: Tensor, seen: Tensor, asked: Tensor) -> Tensor:
        """hidden: [B, 1 + P * P, width]; condition: [B * Q, width]; seen, asked: as in ShapesDataset."""
        patch = self.patch(hidden[:, 1:]).float().transpose(1, 2).split(self.sizes, dim=1)
        prompt = self.prompt(condition).float().split([size + 1 for size in self.sizes], dim=1)
        losses = [
            F.cross_entropy(patch[k], seen[:, k].flatten(1), ignore_index=-1)
            + F.cross_entropy(prompt[k], asked[:, k])
            for k in range(len(self.sizes))
        ]
        return torch.stack(losses).mean()


def forward(model: ClipSeg, image: Tensor, prompts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [B * Q, 1, S, S] for Q prompts an image, the deepest hidden states, and the prompts'
    conditional embeddings. image: uint8 [B, 3, S, S]."""
    device = next(model.parameters()).device
    each = len(prompts) // len(image)
    words, which = distinct(prompts)
    condition = model.encode_prompts(tokenize(words).to(device))[which.to(device)]
    activations = model.encode_images(normalise(image.to(device)))
    repeated = [hidden.repeat_interleave(each, dim=0) for hidden in activations]
    return model.decode(repeated, condition), activations[-1], condition


def logits_of(model: ClipSeg, image: Tensor, prompts: list[str]) -> Tensor:
    """As `forward`, the logits alone."""
    return forward(model, image, prompts)[0]


@torch.no_grad()
def held_out_scores(model: ClipSeg, seed: int, pictures: int = 500) -> dict[str, float]:
    """Scores on pictures never trained on.

    dice: mean over prompts whose target is there; absent_kept_empty: share of absent targets for
    which fewer than 20 pixels are marked; choice: share of prompts, in pictures of two objects, whose
    object gets the larger share of its pixels marked.
    """
    model.eval()
    stream = seed + HELD_OUT_SEED_OFFSET
    data = DataLoader(ShapesDataset(stream, pictures, queries=2), batch_size=50, collate_fn=collate)
    dices: list[float] = []
    empties: list[bool] = []
    for batch in data:
        marked = logits_of(model, batch["image"], batch["prompts"]).cpu() > 0
        for mask, found in zip(batch["masks"], marked, strict=True):
            if mask.any():
                overlap = 2 * float((mask & found).sum())
                dices.append(overlap / float(mask.sum() + found.sum()))
            else:
                empties.append(int(found.sum()) < 20)
    right = 0
    for index in range(pictures):
        scene, first, second = make_choice(generator(stream + 1, index), IMAGE_SIZE)
        image = torch.from_numpy(scene.image.copy()).permute(2, 0, 1).unsqueeze(0)
        found = (logits_of(model, image, [first.prompt, second.prompt]).cpu() > 0).squeeze(1).numpy()
        share = [[float(found[k][q.mask].mean()) for q in (first, second)] for k in range(2)]
        right += int(share[0][0] > share[0][1]) + int(share[1][1] > share[1][0])
    return {
        "dice": float(np.mean(dices)),
        "absent_kept_empty": float(np.mean(empties)),
        "choice": right / (2 * pictures),
    }


def pretrain(
    out: Path,
    *,
    pictures: int = 204_800,
    batch_size: int = 64,
    queries: int = 3,
    lr: float = 1e-3,
    seed: int = 0,
    workers: int = 1,
    device: torch.device,
    held_out: int = 500,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> dict[str, Any]:
    """Trains the tiny model from nothing on `pictures` procedural pictures and saves it under `out`.

    AdamW with warm-up and cosine decay, bfloat16 autocast, Dice + 2 cross-entropy, an average of the
    weights over about the last thousand steps (that average is what is saved). `report` is called
    with a dict every hundred steps. Returns what was run and its scores on `held_out` pictures.
    """
    torch.manual_seed(seed)
    model = fresh(tiny_config())
    _set_positions(model)
    model.to(device)
    average = copy.deepcopy(model).eval()
    table = model.network.clip.text_model.embeddings.token_embedding.weight
    places = model.places
    hints = Hints(places.vision.width, places.condition_width).to(device)
    others = [value for value in (*model.parameters(), *hints.parameters()) if value is not table]
    groups = [{"params": others, "weight_decay": 0.01}, {"params": [table], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    steps, warmup = pictures // batch_size, 500
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1.02 + 0.98 * math.cos(math.pi * step / steps)),
    )
    data = DataLoader(
        ShapesDataset(seed, steps * batch_size, queries),
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=workers,
    )
    started = time.perf_counter()
    losses: list[float] = []
    for step, batch in enumerate(data, start=1):
        model.train()
        # In bfloat16 SDPA's fused CPU kernel takes three times as long backwards as plain products.
        with torch.autocast(device.type, dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            logits, hidden, condition = forward(model, batch["image"], batch["prompts"])
            hint = hints(hidden, condition, batch["seen"].to(device), batch["asked"].to(device))
        mask = batch["masks"].to(device).float()
        loss = dice_ce(logits.float(), mask, dice_weight=1.0, ce_weight=2.0)
        loss = loss + HINT_WEIGHT * hint
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        _update_average(average, model, min(EMA_DECAY, step / (step + 10)))
        losses.append(loss.item())
        if step % 100 == 0 or step == steps:
            seconds = time.perf_counter() - started
            line: dict[str, Any] = {
                "step": step, "of": steps, "loss": float(np.mean(losses[-100:])),
                "pictures_per_second": step * batch_size / seconds, "minutes": seconds / 60,
            }  # fmt: skip
            if step % 500 == 0:
                line |= held_out_scores(average, seed, pictures=100)
                _save(average, out)
            report(line)
    minutes = (time.perf_counter() - started) / 60
    summary = {
        "pictures": steps * batch_size, "queries": queries, "seed": seed, "minutes": round(minutes, 1),
        "device": str(device), "torch": torch.__version__, **held_out_scores(average, seed, held_out),
    }  # fmt: skip
    _save(average, out)
    write_json(out / "scores.json", summary)
    return summary


@torch.no_grad()
def _set_positions(model: ClipSeg) -> None:
    """Starts the patches' position embeddings as sines and cosines of row and column, of unit size.
    CLIP's own start (standard deviation 0.02) drowns under the patches' colours, and a small model then
    learns colours only: neither places nor shapes."""
    table = model.network.clip.vision_model.embeddings.position_embedding.weight
    side, width = IMAGE_SIZE // PATCH_SIZE, table.shape[1]
    frequencies = 100.0 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line.repeat_interleave(side, dim=0), line.repeat(side, 1)
    table[1:] = torch.cat([rows, columns], dim=1)


def _save(model: ClipSeg, out: Path) -> None:
    """Half precision: 9 MB instead of 18, and no measurable change of the scores."""
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.network.state_dict().items()
    }
    with atomic_path(out / "model.safetensors") as path:
        save_file(tensors, path, {"format": "pt"})
    write_text(out / "config.json", model.network.config.to_json_string())


@torch.no_grad()
def _update_average(average: ClipSeg, model: ClipSeg, decay: float) -> None:
    for kept, current in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
