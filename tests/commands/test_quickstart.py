from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.commands.app import vlsmctl

BETTER = 0.15  # Dice that the adapter must gain


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_quickstart_keeps_what_it_promises(here: Path) -> None:
    answer = vlsmctl("quickstart", "--json")
    document = answer.document
    zero_shot, adapter = (document[name]["metrics"]["dice"]["mean"] for name in ("zero_shot", "adapter"))
    assert adapter > zero_shot + BETTER
    root = here / "vlsmctl-quickstart"
    assert (root / "runs" / "latest").resolve() == Path(document["run"]).resolve()
    assert (root / "runs" / "latest" / "adapter.safetensors").is_file()
    assert [entry["status"] for entry in document["predictions"]] == ["done"] * 3
    made = {
        Path(entry["input"]).name: root / "predictions" / entry["output"]
        for entry in document["predictions"]
    }
    assert set(made) == {"frame.png", "volume.nii.gz", "series"}
    with Image.open(made["frame.png"]) as mask, Image.open(root / "scans" / "frame.png") as scan:
        assert mask.size == scan.size
        assert np.asarray(mask).any()
    volume = nib.load(made["volume.nii.gz"])
    np.testing.assert_allclose(volume.affine, nib.load(root / "scans" / "volume.nii.gz").affine)
    series = pydicom.dcmread(made["series"])
    measures = series.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [*measures.PixelSpacing, measures.SpacingBetweenSlices] == [0.5, 0.5, 4.0]
    # both hold the same frames, so both masks mark the same tissue
    assert abs(int(series.pixel_array.sum()) - int(np.asarray(volume.dataobj).sum())) < 50
    with Image.open(document["preview"]) as preview:
        preview.load()
    assert "5/5" in answer.err
    # what it tells to type next works where it was typed
    told = vlsmctl("predict", root / "scans", "--run", root / "runs" / "latest", "--json").document
    assert told["counts"]["failed"] == 0
