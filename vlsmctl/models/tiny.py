"""The embedded tiny model: a small CLIPSeg that we pretrained on procedural pictures.

Same classes as the full model, a small configuration, CLIP's vocabulary. Its weights lie in
`models/tiny_weights/` inside the package; `vlsmctl weights build tiny` makes them again from nothing.
"""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPSegConfig

IMAGE_SIZE = 160
PATCH_SIZE = 16
FOLDER = Path(__file__).parent / "tiny_weights"


def tiny_config() -> CLIPSegConfig:
    """The configuration: 4 vision layers of width 128 on 16-pixel patches, 4 text layers of width 64."""
    vision = {
        "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
        "patch_size": PATCH_SIZE, "image_size": IMAGE_SIZE,
    }  # fmt: skip
    text = {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
    }  # fmt: skip
    return CLIPSegConfig(
        vision_config=vision,
        text_config=text,
        projection_dim=64,
        extract_layers=[1, 2, 3],
        reduce_dim=64,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=256,
        use_complex_transposed_convolution=True,
    )
