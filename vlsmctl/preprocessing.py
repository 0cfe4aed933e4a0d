"""Pictures to the model's input and logits back to the picture's own size: one class owns both ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATION = "bilinear, antialiased"


def normalise(image: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 of the same shape, ImageNet mean and standard deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD, device=image.device).view(1, 3, 1, 1) * 255
    return (image.float() - mean) / std


@dataclass(frozen=True)
class Preprocessing:
    """Resizes pictures to a square of `image_size` pixels, and logits back to native size."""

    image_size: int

    def resize_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] -> uint8 [S, S, 3], bilinear with antialiasing."""
        return self._resized(image, Image.Resampling.BILINEAR)

    def resize_mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W] -> uint8 [S, S], nearest neighbour, so that no new values appear."""
        return self._resized(mask, Image.Resampling.NEAREST)

    def native_logits(self, logits: Tensor, height: int, width: int, *, smooth: bool = True) -> Tensor:
        """float [B, 1, S, S] -> float [B, 1, height, width], the inverse of `resize_image`.

        smooth: bilinear, so that edges are smooth after the threshold. Otherwise nearest neighbour, which
        is the published way: thresholding before or after it makes the same mask.
        """
        if not smooth:
            return F.interpolate(logits, size=(height, width), mode="nearest")
        shrinks = height < logits.shape[-2] or width < logits.shape[-1]
        return F.interpolate(
            logits, size=(height, width), mode="bilinear", align_corners=False, antialias=shrinks
        )

    def _resized(self, array: NDArray[np.uint8], how: Image.Resampling) -> NDArray[np.uint8]:
        size = (self.image_size, self.image_size)
        if array.shape[1::-1] == size:
            return array
        return np.asarray(Image.fromarray(array).resize(size, how))
