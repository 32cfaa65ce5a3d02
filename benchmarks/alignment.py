"""Face detection against a peer, on the same photos, in the same run and on one thread.

The peer is `mtcnn-runtime` 1.0.0 (the same networks on ONNX Runtime, with its own Python), once as
it comes (faces from 20 pixels up) and once told to look for faces of our size. Install it without
its dependencies, since it would bring a second OpenCV:

    pip install --no-deps mtcnn-runtime==1.0.0
    python -m benchmarks.alignment [--photos 500] [--repeats 3]

It reads LFW and the detectors' ONNX files from ../shared/data (or $FACEWRIGHT_DATA). An error is
the mean distance of the five points from the reference, in eye distances; the median over photos
is given. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from facewright.detection import Faces, choose_face, load_detector

DATA = Path(os.environ.get("FACEWRIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))
MIN_FACE, SIDE = 0.2, 250


def photo_files(count: int) -> list[tuple[bytes, np.ndarray]]:
    """`count` JPEG files from all over LFW, 250 × 250, and their reference points, (5, 2)."""
    lines = (DATA / "lfw" / "landmarks5.txt").read_text().splitlines()
    chosen = {line.split("\t")[0]: line.split("\t")[1:] for line in lines[:: len(lines) // count]}
    found = []
    with tarfile.open(DATA / "lfw" / "lfw-deepfunneled.tgz") as tar:
        for member in tar:
            marks = chosen.get(member.name.partition("/")[2])
            if marks is not None and len(found) < count:
                data = tar.extractfile(member).read()
                found.append((data, np.array(marks, float).reshape(5, 2)))
    return found


def photos(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` photos from all over LFW, (250, 250, 3) uint8 RGB, and their reference points."""
    return [
        (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), marks)
        for data, marks in photo_files(count)
    ]


def peer(min_face: float) -> Callable[[np.ndarray], Faces] | None:
    """The peer on one thread, its answer in our form; None if it is not installed."""
    import onnxruntime

    open_session = onnxruntime.InferenceSession

    def on_one_thread(*args, **kwargs):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return open_session(*args, sess_options=options, **kwargs)

    try:
        onnxruntime.InferenceSession = on_one_thread
        from mtcnnruntime import MTCNN

        network = MTCNN()
    except ImportError:
        return None
    finally:
        onnxruntime.InferenceSession = open_session

    def detect(image: np.ndarray) -> Faces:
        try:
            boxes, marks = network.detect(image[..., ::-1].copy(), min_face_size=min_face)
        # It raises where its first stage proposes nothing.
        except ValueError:
            boxes = []
        if len(boxes) == 0:
            boxes, marks = np.zeros((0, 5)), np.zeros((0, 10))
        return Faces(
            boxes=boxes[:, :4].astype(np.float32),
            landmarks=np.stack([marks[:, :5], marks[:, 5:]], axis=2).astype(np.float32),
            scores=boxes[:, 4].astype(np.float32),
        )

    return detect


def measure(detect: Callable[[np.ndarray], Faces], images: list) -> tuple[float, float, int]:
    """Photos per second of CPU time, median error in eye distances, photos without a face."""
    start = time.process_time()
    answers = [detect(image) for image, _ in images]
    rate = len(images) / (time.process_time() - start)
    errors, missed = [], 0
    for (_, marks), faces in zip(images, answers, strict=True):
        index = choose_face(faces, width=SIDE, height=SIDE)
        if index is None:
            missed += 1
            continue
        distance = np.linalg.norm(faces.landmarks[index] - marks, axis=1).mean()
        errors.append(distance / np.linalg.norm(marks[1] - marks[0]))
    return rate, float(np.median(errors)), missed


def asked(about: str, *, photos: int) -> argparse.Namespace | None:
    """How many photos of LFW, and how often; None, and said, where LFW is not there."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=photos)
    parser.add_argument("--repeats", type=int, default=3)
    wanted = parser.parse_args()
    if (DATA / "lfw").is_dir():
        return wanted
    print(f"skipped: no LFW in {DATA}: set FACEWRIGHT_DATA", file=sys.stderr)
    print(json.dumps({"skipped": "no data"}))
    return None


def main() -> None:
    """Measure everyone in turn, `--repeats` times, so that a busy machine hits all alike."""
    wanted = asked(__doc__, photos=500)
    if wanted is None:
        return
    images = photos(wanted.photos)
    detectors = {"ours": load_detector("mtcnn", min_face=MIN_FACE, threshold=0.7).detect}
    for row, name, file, threshold in (
        ("yunet", "yunet", "face_detection_yunet_2026may.onnx", 0.6),
        ("scrfd_500m", "scrfd", "scrfd_500m_bnkps.onnx", 0.5),
        ("scrfd_2_5g", "scrfd", "scrfd_2.5g.onnx", 0.5),
    ):
        detectors[row] = load_detector(
            name, model=DATA / "detectors" / file, min_face=MIN_FACE, threshold=threshold
        ).detect
    for row, smallest in (("peer", 20.0), ("peer_same_min_face", MIN_FACE * SIDE)):
        if (detect := peer(smallest)) is not None:
            detectors[row] = detect
        else:
            print(f"skipped {row}: pip install --no-deps mtcnn-runtime==1.0.0", file=sys.stderr)
    runs = [
        {row: measure(f, images) for row, f in detectors.items()} for _ in range(wanted.repeats)
    ]
    result: dict = {"photos": len(images), "repeats": wanted.repeats, "min_face": MIN_FACE}
    for row in detectors:
        rates = [run[row][0] for run in runs]
        result[f"photos_per_s_{row}"] = round(statistics.median(rates), 1)
        result[f"spread_{row}"] = [round(min(rates), 1), round(max(rates), 1)]
        result[f"median_error_eye_distance_{row}"] = round(runs[0][row][1], 4)
        result[f"missed_{row}"] = runs[0][row][2]
        if row.startswith("peer"):
            ratios = [run["ours"][0] / run[row][0] for run in runs]
            name = row.replace("peer", "speedup_detect")
            result[name] = round(statistics.median(ratios), 2)
            result[f"{name}_spread"] = [round(min(ratios), 2), round(max(ratios), 2)]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
