"""What a preset may hold: every key with its type, its bounds and its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

PromptChoice = Annotated[str, Field(pattern=r"^(random|all|p\d+)$")]
TrainPromptChoice = Annotated[str, Field(pattern=r"^(random|p\d+)$")]
PromptKey = Annotated[str, Field(pattern=r"^p(0|[1-9]\d*)$")]

# The rows of VLSM-Adapter's Table 1, one for each way of fine-tuning
PaperRow = Literal["clipseg-end-to-end", "cris-end-to-end", "san", "clipseg-shallow", "clipseg-dense"]
# The method here that each row was trained with; the others' models are not built yet
PAPER_METHODS: dict[str, PaperRow] = {
    "decoder": "clipseg-end-to-end", "shallow-vlc": "clipseg-shallow", "dense-vlc": "clipseg-dense",
}  # fmt: skip
Percent = Annotated[float, Field(ge=0, le=100)]

_END_TO_END = (
    "clipseg-end-to-end: in the published runs only the decoder trained (1.1 M parameters, not the 150 M "
    "that the table prints); here that is the method decoder"
)
_PLACEHOLDER = re.compile(r"\{\w+\}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_texts(value: Any) -> Any:
    """One message where a union of types would give one for each."""
    texts = value if isinstance(value, list) and value else [value]
    if not all(isinstance(text, str) for text in texts):
        raise PydanticCustomError("texts", "expected a text, or a list of texts")
    for text in texts:
        if set("{}") & set(_PLACEHOLDER.sub("", text)):
            raise PydanticCustomError(
                "braces", "expected words in braces, such as {class}, and no other braces"
            )
    return value


Texts = Annotated[str | list[str], BeforeValidator(_check_texts)]


class AdapterConfig(_Section):
    """`bottleneck`: width of the blocks; null takes the method's own, see MethodsConfig."""

    bottleneck: Annotated[int, Field(ge=1)] | None = None


class PromptConfig(_Section):
    """Which prompts are used: `random` (uniform over p1..pN), one of p0..pN, or `all` (evaluation)."""

    train: TrainPromptChoice = "random"
    eval: PromptChoice = "random"


class PromptSource(_Section):
    """What prompts are made of when a data set is prepared.

    class: the word for what the masks show. templates: p0..pN, each a text or a list of texts with words
    in braces. descriptions: what {description} stands for; a template with it becomes a list. absent:
    templates for the images that show no target, instead of `templates`. See `vlsmctl.datasets.prompts`.
    """

    class_: Annotated[str, Field(alias="class", min_length=1)]
    descriptions: list[str] = []
    templates: dict[PromptKey, Texts] = {}
    absent: dict[PromptKey, Texts] = {}


class DenseConfig(_Section):
    """The dense adapter. `bottleneck`: width of its blocks."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    bottleneck: Annotated[int, Field(ge=1)] = 64


class ShallowConfig(_Section):
    """The shallow adapter. `bottleneck`: width of its blocks."""

    lr: Annotated[float, Field(gt=0)] = 3e-4
    bottleneck: Annotated[int, Field(ge=1)] = 512


class DecoderConfig(_Section):
    """The decoder alone."""

    lr: Annotated[float, Field(gt=0)] = 1e-3


class FullConfig(_Section):
    """The whole model."""

    lr: Annotated[float, Field(gt=0)] = 1e-4


class MethodsConfig(_Section):
    """What each family of methods takes where `train.lr` and `adapter.bottleneck` are null. Defaults are
    the published ones; their sources stand in presets/_published.yaml."""

    dense: DenseConfig = DenseConfig()
    shallow: ShallowConfig = ShallowConfig()
    decoder: DecoderConfig = DecoderConfig()
    full: FullConfig = FullConfig()


class TrainConfig(_Section):
    """Training. Defaults are those of VLSM-Adapter's published configuration.

    lr: null takes the method's own, see MethodsConfig.
    precision: auto is bf16 on a GPU that has it, fp16 on other GPUs, fp32 on a CPU.
    augment: light changes brightness, contrast, scale and position a little; never mirrors, because
    prompts name places.
    """

    epochs: Annotated[int, Field(ge=1)] = 200
    min_epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 32
    lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    loss: Literal["dice_ce", "paper"] = "dice_ce"
    patience: Annotated[int, Field(ge=1)] = 20
    min_delta: Annotated[float, Field(ge=0)] = 1e-4
    lr_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    lr_patience: Annotated[int, Field(ge=0)] = 5
    grad_clip: Annotated[float, Field(gt=0)] | None = 0.5
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    augment: Literal["none", "light"] = "none"
    deterministic: bool | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42


class PaperScores(_Section):
    """Published test scores: `dice` and `iou` in %, `hd95` in pixels of the masks at their own size."""

    dice: Percent
    iou: Percent
    hd95: Annotated[float, Field(ge=0)]


class Paper(_Section):
    """Published figures for a data set. `notes`: what to know when comparing with them."""

    source: str = ""
    notes: list[str] = []
    scores: dict[PaperRow, PaperScores] = {}

    @property
    def remarks(self) -> list[str]:
        """What to say wherever the figures are shown."""
        return [*([_END_TO_END] if "clipseg-end-to-end" in self.scores else []), *self.notes]

    def remarks_on(self, row: PaperRow) -> list[str]:
        """What to say where the figures of one row alone are shown."""
        return [
            remark for remark in self.remarks if remark is not _END_TO_END or row == "clipseg-end-to-end"
        ]


class Preset(_Section):
    """Everything a run is made from. `data` names a folder below the data folder."""

    data: Annotated[str, Field(min_length=1)]
    model: Literal["clipseg", "tiny"] = "clipseg"
    method: Literal[
        "dense-v", "dense-l", "dense-c", "dense-vl", "dense-vlc",
        "shallow-v", "shallow-l", "shallow-c", "shallow-vl", "shallow-vlc",
        "decoder", "full", "none",
    ] = "dense-vlc"  # fmt: skip
    weights: Path | None = None
    adapter: AdapterConfig = AdapterConfig()
    methods: MethodsConfig = MethodsConfig()
    prompts: PromptConfig = PromptConfig()
    prompts_from: PromptSource | None = None
    image_size: Annotated[int, Field(ge=16, multiple_of=16)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    train: TrainConfig = TrainConfig()
    paper: Paper = Paper()

    @property
    def family(self) -> str:
        """The method without its variant: "dense" of "dense-vlc"."""
        return self.method.split("-")[0]

    @property
    def paper_row(self) -> PaperRow | None:
        """The published row to compare with; None where none was published for this data and method."""
        row = PAPER_METHODS.get(self.method)
        return row if row in self.paper.scores else None

    @property
    def lr(self) -> float | None:
        """The learning rate: train.lr, or the method's own; None for `none`, which trains nothing."""
        return self.train.lr or getattr(getattr(self.methods, self.family, None), "lr", None)

    @property
    def bottleneck(self) -> int | None:
        """The width of the blocks: adapter.bottleneck, or the method's own; None where it has no blocks."""
        own = getattr(getattr(self.methods, self.family, None), "bottleneck", None)
        return self.adapter.bottleneck or own


def keys(section: type[BaseModel] = Preset, prefix: str = "") -> list[str]:
    """Every dotted key of a preset."""
    found: list[str] = []
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        inner = _section_of(field.annotation)
        found += keys(inner, key + ".") if inner else [key]
    return found


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, be it or null; a dict of sections has keys of its own."""
    candidates = [] if get_origin(annotation) is dict else [annotation, *get_args(annotation)]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
