"""From embeddings of verification pairs to metrics, curves and a page; numpy, pandas, scipy only.

`scores` everywhere is the frame that `score_pairs` makes: one row per pair with `fold`, `label`
(1 genuine, 0 impostor), `a`, `b` (ids of images), `similarity` and `status` (`ok`, or `failure`
where a face was not found). What is said of pairs is computed from it and can be computed again.
"""

from facewright.evaluation.curves import roc, score_histogram
from facewright.evaluation.metrics import verification_metrics
from facewright.evaluation.pairs import pairs_digest, score_pairs

__all__ = ["pairs_digest", "roc", "score_histogram", "score_pairs", "verification_metrics"]
