"""k8s/ as the cluster would get it: rendered, checked against schemas and against our own rules.

    python -m tests.k8s render build/k8s          # both overlays, with made-up secrets and site
    python -m tests.k8s check k8s/overlays/prod   # an overlay as it is: CHANGE-ME is refused

No API server is asked: admission, RBAC and scheduling are not known here.
"""
