"""A factory for face recognizers: from raw photographs to a registered, compiled model."""

import os

__version__ = "0.1.0"

# Packages that report to their makers, ONNX Runtime even the names and digests of models, do not
# from here. They ask the environment when they are imported, which is after this.
SILENCED = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}
os.environ |= SILENCED
