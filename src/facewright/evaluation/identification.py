"""One against many: a gallery of enrolled people, probes, and the figures of both kinds of use.

Terms are those of ISO/IEC 19795-1 and of NIST's FRVT 1:N (NISTIR 8271):

- A *mated* probe shows somebody who is enrolled; its mate is the own person's entry, of several
  entries the one that scores best. Its *rank* is one more than the number of other people who
  score as high as the mate or higher: a tie counts against us.
- Closed set: the share of mated probes whose rank is at most R, for each R: the CMC.
- Open set, at a threshold: FPIR is the share of probes that are *not enrolled* for which anybody
  reaches the threshold, FNIR the share of mated probes whose mate is not at rank 1 or stays
  below it.

A face that was not found counts as in `curves`: a mated probe without a face, or whose enrolled
photo has none, is a miss at every rank and threshold; FPIR is over probes that were searched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.intervals import FEW, fmr_bound, wilson
from facewright.evaluation.pairs import Ints
from facewright.evaluation.search import MISSED, Embeddings, Found, search

GALLERY, MATED, UNENROLLED = "gallery", "mated", "unenrolled"


def split_gallery(
    identities: Mapping[str, str], *, unenrolled_share: float, seed: int
) -> pd.DataFrame:
    """A gallery and probes from the photos of a verification set.

    Of people with two photos or more the first photo by id is enrolled and the others are mated
    probes. All photos of people with only one, and of a random share of the others, are probes
    that are not enrolled.

    Args:
        identities: identity of each photo by its id, in any order.
        unenrolled_share: in [0, 1), of the people with two photos or more, rounded to people.
        seed: of the choice.

    Returns:
        One row per photo, by identity and id: `id`, `identity`, `role` (`gallery`, `mated` or
        `unenrolled`).

    Raises:
        EvaluationError: nobody would be enrolled.
    """
    if not 0 <= unenrolled_share < 1:
        raise ValueError(f"unenrolled_share is {unenrolled_share}, must be in [0, 1)")
    split = pd.DataFrame({"id": list(identities), "identity": list(identities.values())})
    split = split.sort_values(["identity", "id"], ignore_index=True)
    photos = split.groupby("identity")["id"].transform("size")
    several = split.loc[photos > 1, "identity"].unique()
    away = np.random.default_rng(seed).permutation(len(several))
    away = away[: round(unenrolled_share * len(several))]
    if len(away) == len(several):
        raise EvaluationError(
            f"nobody can be enrolled: of {split['identity'].nunique()} people {len(several)} have "
            "two photos or more; add photos, or lower the share of people who are not enrolled"
        )
    outside = (photos == 1) | split["identity"].isin(several[away])
    first = ~split["identity"].duplicated()
    role = np.where(outside, UNENROLLED, np.where(first, GALLERY, MATED))
    return split.assign(role=role)


def without_shared(split: pd.DataFrame, *, photos: pd.DataFrame) -> pd.DataFrame:
    """A split of templates without the mated probes that hold a photo of their person's entry.

    Those would find that very photo. (Lists for pairs share photos between templates.)

    Args:
        split: as `split_gallery` gives it.
        photos: columns id (of a template) and photo.
    """
    held = photos.merge(split, on="id")[["id", "identity", "role", "photo"]]
    enrolled = held.loc[held["role"] == GALLERY, ["identity", "photo"]].drop_duplicates()
    shared = held[held["role"] == MATED].merge(enrolled, on=["identity", "photo"])["id"]
    return split[~split["id"].isin(shared)].reset_index(drop=True)


def search_split(
    split: pd.DataFrame,
    *,
    ids: Sequence[str],
    embeddings: Embeddings,
    sizes: Sequence[int] = (),
    seed: int = 0,
) -> Found:
    """Search the probes of a split in its gallery; see `search`.

    Args:
        split: columns id, identity, role, as `split_gallery` gives them; of photos or templates.
            A person may have several rows of the gallery.
        ids: what has an embedding, without repetition; whatever else `split` names is a face that
            was not found.
        embeddings: `(len(ids), E)`, each of length 1.

    Returns:
        Probes in the order of `split`.

    Raises:
        EvaluationError: see `search`; or an id is repeated, or a role is unknown.
    """
    known = split["role"].isin((GALLERY, MATED, UNENROLLED))
    if not known.all():
        wrong = split.loc[~known, "role"].iloc[0]
        raise EvaluationError(f"a role is {wrong!r}, must be {GALLERY}, {MATED} or {UNENROLLED}")
    index = pd.Index(ids)
    if len(index) != len(embeddings):
        raise ValueError(f"{len(index)} ids for {len(embeddings)} embeddings")
    if not index.is_unique:
        repeated = index[index.duplicated()][0]
        raise EvaluationError(f"two embeddings for {repeated!r}: embed each image once")
    rows = index.get_indexer(pd.Index(split["id"]))
    enrolled = (split["role"] == GALLERY).to_numpy()
    entries, probes = rows[enrolled], rows[~enrolled]
    people = split["identity"].to_numpy(dtype=object)
    mated = (split["role"] == MATED).to_numpy()[~enrolled]
    absent = set(people[~enrolled][mated]) - set(people[enrolled])
    present = set(people[~enrolled][~mated]) & set(people[enrolled])
    if absent or present:
        name = min(absent or present)
        said, is_not = ("mated", "no") if absent else ("unenrolled", "an")
        raise EvaluationError(
            f"a probe of {name!r} is called {said} and the gallery has {is_not} entry of that "
            "person: correct the split"
        )
    if len(probes) and not (probes >= 0).any():
        raise EvaluationError(
            f"no face was found in any of {len(probes)} probes: look at the photos and the detector"
        )
    found = search(
        embeddings[entries[entries >= 0]],
        people[enrolled][entries >= 0],
        embeddings[probes[probes >= 0]],
        people[~enrolled][probes >= 0],
        sizes=sizes,
        seed=seed,
    )
    searched = probes >= 0
    count, levels = len(probes), len(found.sizes)
    mate = np.where(mated, -np.inf, np.nan)
    rank = np.tile(np.where(mated, MISSED, 0).astype(np.int64), (levels, 1))
    other = np.full((levels, count), -np.inf)
    # A mated probe whose enrolled photo was lost was searched as if nobody knew it: a miss.
    compared = np.flatnonzero(searched)[found.mated]
    mate[compared] = found.mate[found.mated]
    rank[:, compared] = found.rank[:, found.mated]
    other[:, searched] = found.other
    return replace(
        found,
        mated=mated,
        searched=searched,
        mate=mate,
        rank=rank,
        other=other,
        lost_entries=int((entries < 0).sum()),
    )


def cmc(found: Found, *, ranks: int = 50) -> pd.DataFrame:
    """The cumulative match characteristic of the whole gallery, for a plot.

    (Phillips et al., IEEE TPAMI 2000; Wilson's interval takes probes as independent, which those
    of one person are not quite.)

    Returns:
        Columns rank (1 to `ranks`, at most the number of people), rate, low, high.

    Raises:
        EvaluationError: no probe is mated.
    """
    rank = _mated_ranks(found, level=-1)
    steps = np.arange(1, min(ranks, found.sizes[-1]) + 1)
    rates = np.searchsorted(np.sort(rank), steps, side="right") / len(rank)
    ends = np.array([wilson(float(rate), len(rank)) for rate in rates])
    return pd.DataFrame({"rank": steps, "rate": rates, "low": ends[:, 0], "high": ends[:, 1]})


def identification_metrics(
    found: Found,
    *,
    fpir_targets: Sequence[float],
    ranks: Sequence[int] = (1, 5),
    size: int | None = None,
) -> dict[str, float]:
    """Identification figures by name; no value is NaN.

    - `rank_R` for each of `ranks`: the share of mated probes whose mate is at rank R or better.
    - `fnir_at_fpir_X` and `threshold_at_fpir_X` for each target X: the laxest threshold at which
      at most that share of the probes that are not enrolled brings up anybody. A target at which
      fewer than ten of them are expected to is left out.
    - `fpir_bound`: the FPIR that is excluded at 95 % if no such probe brings up anybody (one-sided
      Clopper–Pearson; 1 if there is no such probe), with `fnir_at_fpir_bound` and
      `threshold_at_fpir_bound`, just above the highest score of such a probe.
    - `_low` and `_high` of ranks and FNIR: Wilson's 95 % interval, probes taken as independent.
    - `people` in the gallery; `probes_mated`, `probes_unenrolled`; `failures_gallery` (enrolled
      photos without a face), `failures_mated` (probes without a face, or whose enrolled photo has
      none), `failures_unenrolled`.

    Args:
        fpir_targets: shares in (0, 1).
        size: one of `found.sizes`; the whole gallery if not given.

    Raises:
        EvaluationError: no probe is mated.
    """
    if not all(0 < target < 1 for target in fpir_targets):
        raise ValueError(f"FPIR targets {list(fpir_targets)} must be in (0, 1)")
    level = len(found.sizes) - 1 if size is None else found.sizes.index(size)
    rank = _mated_ranks(found, level=level)
    outside = ~found.mated & found.searched
    metrics: dict[str, float] = {
        "people": found.sizes[level],
        "probes_mated": len(rank),
        "probes_unenrolled": int((~found.mated).sum()),
        "failures_gallery": found.lost_entries,
        "failures_mated": int((rank == MISSED).sum()),
        "failures_unenrolled": int((~found.mated & ~found.searched).sum()),
        "fpir_bound": 1.0,
    }
    for limit in ranks:
        metrics |= _share(f"rank_{limit}", int((rank <= limit).sum()), len(rank))

    highest = np.sort(found.other[level, outside])[::-1]
    if not len(highest):
        return metrics
    metrics["fpir_bound"] = fmr_bound(len(highest))
    mate = found.mate[found.mated]
    allowed = {  # 0.29 × 100 must allow 29
        f"{target:g}": target * len(highest) * (1 + 1e-9)
        for target in fpir_targets
        if target * len(highest) * (1 + 1e-9) >= FEW
    }
    for name, positives in {**allowed, "bound": 0}.items():
        # Just above the first score that would be one positive too many.
        threshold = float(np.nextafter(highest[int(positives)], np.inf))
        missed = int((~((rank <= 1) & (mate >= threshold))).sum())
        metrics[f"threshold_at_fpir_{name}"] = threshold
        metrics |= _share(f"fnir_at_fpir_{name}", missed, len(rank))
    return metrics


def by_gallery_size(found: Found, *, fpir_targets: Sequence[float]) -> pd.DataFrame:
    """`identification_metrics` of each size, a row each: how figures fall as the gallery grows.

    Raises:
        EvaluationError: no probe is mated.
    """
    rows = [
        identification_metrics(found, fpir_targets=fpir_targets, size=size) for size in found.sizes
    ]
    return pd.DataFrame(rows)


def _mated_ranks(found: Found, *, level: int) -> Ints:
    if not found.mated.any():
        raise EvaluationError(
            f"none of {len(found.mated)} probes shows somebody who is enrolled: people need a "
            "photo in the gallery and another one as a probe"
        )
    ranks: Ints = found.rank[level, found.mated]
    return ranks


def _share(name: str, count: int, trials: int) -> dict[str, float]:
    low, high = wilson(count / trials, trials)
    return {name: count / trials, f"{name}_low": low, f"{name}_high": high}
