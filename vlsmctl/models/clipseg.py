"""CLIPSeg (Lüddecke and Ecker, CVPR 2022, arXiv 2112.10003), as transformers implements it.

Only what the mask depends on is computed: the vision layers up to the last one extracted, each
distinct prompt once, no padding, attention through SDPA. The modules are transformers' own; the
places where a method may attach are those of `vlsmctl.adapters.places`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from vlsmctl.adapters.places import EncoderPlaces, Places


class Activation(nn.Module):
    """The place of one hidden state on its way to the decoder: unchanged unless a method attaches."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


class Condition(nn.Module):
    """The place of the conditional embedding: the projected text unless a method attaches."""

    def forward(self, projected: Tensor, eos_states: list[Tensor]) -> Tensor:
        return projected


class ClipSeg(nn.Module):
    """A CLIPSeg network with room for an adapter.

    `network` is the base model with transformers' names; `adapter` holds the parameters of an
    attached method (empty until one is attached, see `vlsmctl.adapters.build.attach`).
    """

    def __init__(self, network: CLIPSegForImageSegmentation) -> None:
        super().__init__()
        self.network = network
        self.extract_layers = tuple(int(layer) for layer in network.config.extract_layers)
        self.activations = nn.ModuleList(Activation() for _ in self.extract_layers)
        self.condition = Condition()
        self.adapter = nn.ModuleDict()

    @property
    def places(self) -> Places:
        clip = self.network.clip
        return Places(
            vision=_encoder_places(clip.vision_model.encoder, clip.vision_embed_dim),
            text=_encoder_places(clip.text_model.encoder, clip.text_embed_dim),
            activations=tuple(self.activations),
            text_projection=clip.text_projection,
            condition=self.condition,
            decoder=self.network.decoder,
            condition_width=int(clip.projection_dim),
            depth=max(self.extract_layers),
        )

    def encode_images(self, image: Tensor) -> list[Tensor]:
        """Hidden states of the extracted layers, each [B, 1 + patches, width].

        image: float [B, 3, S, S], normalised; S any multiple of the patch (positions are
        interpolated bicubically where S differs from the size in the model's configuration).
        """
        vision = self.network.clip.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(image, interpolate_pos_encoding=True))
        handed: list[Tensor] = []
        for number, layer in enumerate(vision.encoder.layers[: max(self.extract_layers) + 1]):
            hidden = layer(hidden, attention_mask=None)
            if number in self.extract_layers:
                handed.append(self.activations[len(handed)](hidden))
        return handed

    def encode_prompts(self, tokens: Tensor) -> Tensor:
        """Conditional embeddings, [P, condition width]. tokens: int64 [P, T], one row a distinct prompt."""
        clip = self.network.clip
        layers = clip.text_model.encoder.layers
        wanted = [layers[number] for number in self.extract_layers if number < len(layers)]
        with _outputs_of(wanted) as hidden:
            output = clip.text_model(input_ids=tokens)
        rows, eos = torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)
        projected = clip.text_projection(output.pooler_output)
        condition: Tensor = self.condition(projected, [state[rows, eos] for state in hidden])
        return condition

    def decode(self, activations: list[Tensor], condition: Tensor) -> Tensor:
        """Logits, float [B, 1, S, S]. condition: [B, condition width], a row an image."""
        logits: Tensor = self.network.decoder(activations, condition).logits
        return logits.unsqueeze(1)

    def forward(self, image: Tensor, tokens: Tensor, which: Tensor) -> Tensor:
        """Logits, float [B, 1, S, S].

        image: float [B, 3, S, S], normalised. tokens: int64 [P, T], the distinct prompts of the batch.
        which: int64 [B], the row of `tokens` that each image is asked for.
        """
        return self.decode(self.encode_images(image), self.encode_prompts(tokens)[which])


@contextmanager
def _outputs_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collects what the layers return within it, in the order they run."""
    kept: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _module, _arguments, output: kept.append(output))
        for layer in layers
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _encoder_places(encoder: nn.Module, width: int) -> EncoderPlaces:
    layers = list(encoder.layers)  # type: ignore[arg-type]
    return EncoderPlaces(
        attention=tuple(layer.self_attn for layer in layers),
        mlp=tuple(layer.mlp for layer in layers),
        width=int(width),
    )


def fresh(config: CLIPSegConfig) -> ClipSeg:
    """A CLIPSeg with random weights. transformers gives a new decoder logits in the hundreds (its
    layers start at standard deviation 1), so the decoder is initialised as torch does by default."""
    network = CLIPSegForImageSegmentation(config)
    for module in network.decoder.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    return ClipSeg(network)
