"""What to know when comparing the grid's scores with the paper's, said once for all whom it concerns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlsmctl.config import Preset
from vlsmctl.reproduce.grid import NO_DATA, NO_WEIGHTS, SPLIT, UNUSABLE, Cell
from vlsmctl.reproduce.standing import Standing
from vlsmctl.scoring import Asked, paper_of

_FROM_MASKS = (
    "the prompts, but for p0 and p1, tell the model size, number or place of the target, taken from the "
    "true mask, as in the published protocol"
)
_NOT_DONE = {
    NO_DATA: "not done, for the data are not prepared (vlsmctl prepare NAME)",
    NO_WEIGHTS: "not done, for the weights of the base model are missing (vlsmctl weights fetch MODEL)",
    UNUSABLE: "not done, for the data or the run's folder cannot be used",
}


@dataclass
class Remarks:
    """Texts, each with the presets that it is about; none: about all."""

    about: dict[str, list[str]] = field(default_factory=dict)
    presets: list[str] = field(default_factory=list)

    def add(self, text: str, preset: str | None = None) -> None:
        named = self.about.setdefault(text, [])
        if preset is not None and preset not in named:
            named.append(preset)

    def texts(self) -> tuple[str, ...]:
        """Those of some presets begin with their names, if these are not in them."""
        return tuple(
            text if named in ([], self.presets) or all(name in text for name in named)
            else f"{', '.join(named)}: {text}"
            for text, named in self.about.items()
        )  # fmt: skip


def remarks_on(remarks: Remarks, name: str, cells: Sequence[tuple[Cell, Standing]]) -> None:
    """Adds what there is to say of a preset's cells."""
    remarks.presets.append(name)
    for text in cells[0][0].preset.paper.remarks:
        remarks.add(text, name)
    for cell, now in cells:
        if now.state in _NOT_DONE and now.summary is None:
            remarks.add(_NOT_DONE[now.state], name)
        if now.summary is not None:
            for text in _of_scores(cell, now.summary):
                remarks.add(text, name)
    bases = {str(now.document["base"]["sha256"]) for _, now in cells if now.document is not None}
    if len(bases) > 1:
        listed = ", ".join(sorted(base[:12] for base in bases))
        remarks.add(f"its runs were started on different base models (sha256 {listed})", name)


def _of_scores(cell: Cell, summary: Mapping[str, Any]) -> Iterator[str]:
    about = summary["about"]
    yield from (about.get("paper") or _paper(cell, about) or {}).get("remarks", ())
    if cell.preset.paper_row is not None and not about.get("paper"):
        yield f"not compared, for the data set scored is {about.get('data')!r}"
    if about.get("prompts_from_masks"):
        yield _FROM_MASKS
    if about.get("trained_pictures"):
        yield f"{about['trained_pictures']} of the {SPLIT} pictures are in train or val, too"
    if summary["n_failed"]:
        yield (
            f"{cell.method}, seed {cell.seed}: {summary['n_failed']} {SPLIT} pictures could not be scored "
            "and are in no mean"
        )


def _paper(cell: Cell, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """What there would be to say of the published method, where this one has no row in the paper."""
    if cell.manifest is None or cell.preset.paper_row is not None:
        return None
    published: Preset = cell.preset.model_copy(update={"method": "dense-vlc"})
    return paper_of(published, cell.manifest, Asked(SPLIT, about["prompts"], protocol=about["protocol"]))
