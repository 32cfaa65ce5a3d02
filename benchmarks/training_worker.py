"""One process of a training that `benchmarks/training.py` measures from outside.

    python -m benchmarks.training_worker FOLDER JOB    # or by torchrun; JOB is JSON

Writes FOLDER/RANK.json: images per second, and the largest resident memory of the process in MB
(10⁶ bytes).
"""

import json
import os
import sys
from pathlib import Path

from benchmarks.training_crops import drawn, our_rate
from facewright.datasets.crops import Crops


def peak_megabytes() -> float:
    """The most memory that this process held; `ru_maxrss` would count its parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6  # what /proc calls kB are 1,024 bytes


def main() -> None:
    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    folder_of_crops = job.get("crops")
    crops = Crops(Path(folder_of_crops), memory=0) if folder_of_crops else drawn(**job["drawn"])
    rate = our_rate(crops, warm=job["warm"], steps=job["steps"], **job["changed"])
    result = {"images_per_s": rate, "peak_mb": peak_megabytes()}
    (folder / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
