"""The whole job on synthetic data: prepare, zero-shot score, train, score, predict. Needs no download."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl import runs
from vlsmctl.cases import Options, plan_cases
from vlsmctl.config import load_preset
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.manifest import Manifest, read_manifest
from vlsmctl.datasets.phantom import make_look, make_phantom
from vlsmctl.files import atomic_path
from vlsmctl.formats.raster import read_mask_picture, read_picture
from vlsmctl.formats.scan import find_scans
from vlsmctl.ledger import Entry
from vlsmctl.models.build import build
from vlsmctl.prediction import predict
from vlsmctl.predictor import predictor_from_model, predictor_from_run, usual_cut
from vlsmctl.preview import PREDICTION, TRUTH, Tile, contact_sheet
from vlsmctl.report import write_report
from vlsmctl.runtime import StopFlag, pick_device
from vlsmctl.scoring import MASKS, Asked, Scored, score_run, score_split
from vlsmctl.training import Fitted, Watcher, fit

PRESET = "phantom"
SLICES = 5
SLICE_SPACING = (0.5, 0.5, 4.0)  # mm, of the volumes that quickstart makes


@dataclass(frozen=True)
class Quickstart:
    """What quickstart did. zero_shot, adapter: summaries of the test split's scores."""

    run: Path
    zero_shot: dict[str, Any]
    adapter: dict[str, Any]
    fitted: Fitted
    entries: list[Entry]
    preview: Path
    report: Path
    seconds: float


def quickstart(
    folder: Path,
    *,
    seed: int,
    stop: StopFlag,
    watch: Callable[[int, str, str], Watcher],
    say: Callable[[str], None],
) -> Quickstart:
    """Does the whole job below `folder`; `say` is told each step, `watch` (epochs, model, method) makes
    what is told of training."""
    began, device = time.perf_counter(), pick_device()
    say("1/5 drawing the phantom data set: synthetic endoscopy frames with and without polyps")
    prepare("phantom", None, folder / "data", seed=seed)
    manifest = read_manifest(folder / "data" / "phantom")
    preset = load_preset(PRESET, seed=seed)

    say(f"2/5 zero-shot: asking the {preset.model} model as it is")
    run = runs.new_run(folder / "runs", PRESET, seed)
    asked = Asked(prompts=preset.prompts.eval)
    zero_shot = score_split(
        predictor_from_model(preset.model, device=device), manifest, asked,
        run / runs.EVALUATIONS / "zero-shot", seed=seed, about={},
    )  # fmt: skip

    say(f"3/5 training a {preset.method} adapter; the model itself stays frozen")
    watcher = watch(preset.train.epochs, preset.model, preset.method)
    fitted = fit(preset, build(preset.model), manifest, run, stop=stop, watcher=watcher)
    if fitted.interrupted:
        raise KeyboardInterrupt
    runs.point_latest(folder / "runs", run)

    say("4/5 scoring the adapter on the same test pictures")
    adapter = score_run(run, asked, device=device)
    report = write_report(run)

    say("5/5 predicting a PNG, a NIfTI volume and a DICOM series made just now")
    scans = folder / "scans"
    make_scans(scans, seed)
    found, _ = find_scans([scans])
    predictor = predictor_from_run(run, device=device)
    options = Options(cut=usual_cut(predictor), overwrite=True)
    cases = plan_cases(found, [("polyp",) for _ in found], predictor, options)
    entries = predict(predictor, cases, folder / "predictions", options, stop=stop).entries
    preview = folder / "preview.png"
    _draw_preview(manifest, {"zero-shot": zero_shot, "adapter": adapter}, preview)
    seconds = time.perf_counter() - began
    return Quickstart(run, zero_shot.summary, adapter.summary, fitted, entries, preview, report, seconds)


def make_scans(folder: Path, seed: int) -> None:
    """Writes `frame.png`, `volume.nii.gz` (RGB) and `series/`, DICOM slices with a position in space."""
    rng = np.random.default_rng((seed, 7))
    look = make_look(rng)
    frames = [make_phantom(rng, look=look)[0] for _ in range(SLICES)]
    folder.mkdir(parents=True, exist_ok=True)
    _write_png(frames[0], folder / "frame.png")
    _write_nifti(frames, folder / "volume.nii.gz")
    for number, frame in enumerate(frames):
        _write_dicom(frame, number, folder / "series" / f"slice{number + 1}.dcm", seed)


def _draw_preview(manifest: Manifest, scored: Mapping[str, Scored], path: Path) -> None:
    """Four test pictures: zero-shot above, adapter below, true outline in both."""
    records = [record for record in manifest.split("test") if record.foreground > 0.02][:4]
    rows = []
    for title, one in scored.items():
        tiles = []
        for record in records:
            found = read_mask_picture(one.folder / MASKS / f"{record.id}.png") > 127
            true = read_mask_picture(manifest.folder / record.mask) > 127
            image = read_picture(manifest.folder / record.image)
            dice = 2 * (found & true).sum() / (found.sum() + true.sum())
            outlines = ((true, TRUTH), (found, PREDICTION))
            tiles.append(Tile(image, outlines, f"{title}: Dice {dice:.2f}"))
        rows.append(tiles)
    with atomic_path(path) as temporary:
        contact_sheet(rows, "green: true outline    orange: predicted outline").save(temporary)


def _write_png(frame: NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    Image.fromarray(frame).save(path)


def _write_nifti(frames: list[NDArray[np.uint8]], path: Path) -> None:
    import nibabel

    pixel = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    stack = np.stack([np.ascontiguousarray(frame.transpose(1, 0, 2)) for frame in frames], axis=2)
    volume = np.ascontiguousarray(stack).view(pixel)[..., 0]
    # RAS+: columns run to the patient's left and rows to the back, as in a radiological display
    affine = np.diag([-SLICE_SPACING[0], -SLICE_SPACING[1], SLICE_SPACING[2], 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def _write_dicom(frame: NDArray[np.uint8], number: int, path: Path, seed: int) -> None:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    def uid(what: str) -> str:
        return str(generate_uid(entropy_srcs=["vlsmctl quickstart", str(seed), what]))

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    instance = uid(f"instance {number}")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("series")
    dataset.FrameOfReferenceUID = uid("frame of reference")
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Phantom", "phantom", "OT"
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = ""
    dataset.ConversionType, dataset.SeriesNumber, dataset.InstanceNumber = "SYN", 1, number + 1
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, SLICE_SPACING[2] * number]
    dataset.PixelSpacing, dataset.SliceThickness = list(SLICE_SPACING[:2]), SLICE_SPACING[2]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *frame.shape[:2], 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = frame.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
