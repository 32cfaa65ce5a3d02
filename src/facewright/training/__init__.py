"""Training: augmentation, the order of crops, schedule, checkpoints, processes, and the loop."""

from facewright.training.distributed import is_main_process
from facewright.training.loop import Trained, fit

__all__ = ["Trained", "fit", "is_main_process"]
