"""Settings of a training that do not go together, for params.yaml and for the rooms alike.

Each function gives the reason, which also says how to mend it, or None where the settings go
together. Whoever asks puts the name and the value of the first argument before it.
"""


def refuse_frozen(frozen: bool, start: object) -> str | None:
    if frozen and start is None:
        return (
            "without a start features would stay as they were drawn: set start, or frozen to false"
        )
    return None


def refuse_smoothing(label_smoothing: float, head: str) -> str | None:
    if head == "triplet" and label_smoothing:
        return "head triplet has no classes to smooth over: set it to 0"
    return None


def refuse_split(crops_per_identity: int | None, batch_size: int) -> str | None:
    if crops_per_identity is None or batch_size % crops_per_identity == 0:
        return None
    return f"batch_size {batch_size} is no multiple of it: change one of them"


def refuse_triplets(
    crops_per_identity: int | None, batch_size: int, passes: int, head: str
) -> str | None:
    """Triplets are of two crops of a person and one of another, all of the same pass."""
    if head != "triplet":
        return None
    if crops_per_identity is None or crops_per_identity < 2:
        return "head triplet learns from two crops of a person in a step: set it to 2 or more"
    if batch_size % (passes * crops_per_identity):  # a pass that ends amid a person splits them
        return f"batch_size {batch_size} is no multiple of it, {passes} times: change one of them"
    least = 2 * passes * crops_per_identity
    if batch_size < least:
        return (
            f"head triplet learns from two people in a pass, and with passes {passes} batch_size "
            f"{batch_size} holds no more than one: raise it to {least} or more"
        )
    return None


def refuse_norms(u_a: float, l_a: float) -> str | None:
    return None if u_a > l_a else f"must be above l_a, {l_a}, or no norm lies between: raise u_a"


def refuse_margins(u_m: float, l_m: float) -> str | None:
    if u_m >= l_m:
        return None
    return f"must not be below l_m, {l_m}, or good photos get the smaller margin: raise u_m"
