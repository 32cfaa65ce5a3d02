"""Every error that a user can cause.

    FacewrightError
    ├── ParamsError        a key or value in params.yaml or in the promotion policy
    ├── DatasetError       a source, a dataset folder, an image list or a pairs file
    ├── DetectorError      a detector's name or its ONNX file
    ├── TrainingError      a network, a head, a checkpoint, or a loss that is no number
    ├── ClusterError       the Kubernetes API, a TrainJob, one of its nodes
    ├── EvaluationError    pairs or scores from which nothing can be said
    ├── EngineError        a backend that is not installed, or an engine that cannot be built or run
    ├── RegistryError      the tracking server, a model version, a promotion
    ├── PipelineError      the Kubeflow server, a run there, what a run is given
    └── StorageError       a disk that is full, a folder that cannot be written

Each message is one line: what is wrong, where, and how to mend it. The command line prints that
line and exits with 2; anything else that is raised is a defect of ours and keeps its traceback.
"""


class FacewrightError(Exception):
    """Base of the errors above; catch this to catch them all."""

    def __init__(self, message: str):
        # One line whatever was interpolated, so that logs and terminals show it whole.
        super().__init__(" ".join(str(message).split()))


class ParamsError(FacewrightError):
    """A key or value in params.yaml or in the promotion policy."""


class DatasetError(FacewrightError):
    """A source, a dataset folder, an image list or a pairs file."""


class DetectorError(FacewrightError):
    """A detector's name or its ONNX file."""


class TrainingError(FacewrightError):
    """A network, a head, a checkpoint, or a loss that is no number."""


class ClusterError(FacewrightError):
    """The Kubernetes API, a TrainJob, one of its nodes."""


class EvaluationError(FacewrightError):
    """Pairs or scores from which nothing can be said."""


class EngineError(FacewrightError):
    """A backend that is not installed, or an engine that cannot be built or run."""


class RegistryError(FacewrightError):
    """The tracking server, a model version, a promotion."""


class PipelineError(FacewrightError):
    """The Kubeflow server, a run there, what a run is given."""


class StorageError(FacewrightError):
    """A disk that is full, a folder that cannot be written."""
