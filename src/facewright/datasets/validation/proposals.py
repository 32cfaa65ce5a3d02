"""Proposals: what validation would do about a training set, for a person to decide.

Nothing of it is done here; see `cleaning` for how it is decided. The reasons:

    near_overlap_identity  an identity with near copies of verification photos: drop it whole;
                           score: how many
    same_name              identities whose names differ only in spelling: merge; score 1
    shared_photos          two identities that share photos in several groups of near copies:
                           merge; score: how many groups
    label_conflict_near    near copies under several identities: where most of them have one,
                           relabel to it what is better than theirs (or was rejected for the
                           conflict) and drop the rest; else drop all; score: similarity
    near_duplicate         near copies of one identity: drop all but the best; score: similarity

Similarity is the share of the hash's bits that agree with the nearest copy meant. An image or an
identity has one proposal at most, the first above.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.datasets.components import components
from facewright.datasets.decisions import COLUMNS
from facewright.datasets.validation.cleaning import Decisions
from facewright.datasets.validation.copies import BITS, Bools, Copies, Ints
from facewright.datasets.validation.tables import OK

SHARED_GROUPS = 3  # groups of near copies that two identities share before a merge is proposed
EXAMPLES = 3  # images shown of an identity
WHOLE = ["near_overlap_identity", "same_name", "shared_photos"]  # about an identity
BLOCK = 1 << 16  # pairs of hashes looked at together
CROWD = 8  # identities; a picture that more of them have says nothing about any two

SAYS = {
    "near_overlap_identity": "drop the identity, which has near copies of verification photos",
    "same_name": "merge the second identity into the first",
    "shared_photos": "merge the second identity into the first",
    "label_conflict_near": "near copies under several identities: relabel to that of most, or drop",
    "near_duplicate": "drop all but the first of each group",
}

Floats = npt.NDArray[np.float64]


@dataclass
class Proposals:
    """The table for `proposals.csv`, and for each reason the images that belong side by side."""

    table: pd.DataFrame
    groups: dict[str, list[list[int]]] = field(default_factory=dict)  # rows of the training table


def propose(train: pd.DataFrame, copies: Copies, decisions: Decisions) -> Proposals:
    """What to do about near copies and names in the judged training table.

    `copies` are those of the rows of `train` (more may follow).
    """
    return _Proposer(train, copies, decisions).run()


class _Proposer:
    """The steps share the codes of images and identities, and what earlier steps have settled."""

    def __init__(self, train: pd.DataFrame, copies: Copies, decisions: Decisions) -> None:
        self.train = train
        self.copies = copies
        self.code = copies.code[: len(train)]
        codes, names = pd.factorize(train["identity"], sort=True)
        self.who: Ints = codes.astype(np.int64)
        self.names = list(names)
        self.order = np.argsort(self.who, kind="stable")
        self.starts = np.searchsorted(self.who[self.order], np.arange(len(names) + 1))
        self.accepted: Bools = (train["status"] == OK).to_numpy()
        self.images: Ints = np.bincount(self.who[self.accepted], minlength=len(names))
        self.decided = decisions.decided
        # Identities that a person decided on, by number.
        self.fixed = {k for k, name in enumerate(names) if name in decisions.decided_identities}
        self.settled: Bools = np.zeros(len(train), bool)  # has a proposal, or its identity has
        self.found: list[tuple[str, int, str, str, float]] = []  # action, row, to, reason, score
        self.groups: dict[str, list[list[int]]] = defaultdict(list)

    def run(self) -> Proposals:
        self._overlapping()
        groups = self._conflicts()
        merged = self._merges(groups)
        for members, similarity in groups:
            if len({merged.get(who, who) for who in self.who[members].tolist()}) > 1:
                self._conflict(members, similarity)
        self._duplicates()
        return Proposals(self._table(), dict(self.groups))

    def _overlapping(self) -> None:
        copied = (self.train["near_in_verify"] | self.train["content_in_verify"]).to_numpy() == 1
        counts = np.bincount(self.who[copied], minlength=len(self.names))
        for who in np.flatnonzero((counts > 0) & (self.images > 0)).tolist():
            if who in self.fixed:
                continue
            rows = self._rows(who)
            self.settled[rows] = True
            self._identity("drop", who, "", "near_overlap_identity", float(counts[who]))
            self.groups["near_overlap_identity"].append(rows[copied[rows]].tolist())

    def _conflicts(self) -> list[tuple[Ints, Floats]]:
        """Groups of near copies under several identities: rows, and their similarities."""
        claimed = (self.accepted | (self.train["reason"] == "label_conflict").to_numpy()) & (
            self.code >= 0
        )
        rows = np.flatnonzero(claimed & ~self.settled)
        if not len(rows):
            return []
        code, who = self.code[rows], self.who[rows]
        hashes = int(self.copies.code.max()) + 1
        cells = np.unique(code * len(self.names) + who)
        holders = np.bincount(cells // len(self.names), minlength=hashes)  # identities per hash
        one = np.zeros(hashes, np.int64)  # the identity of a hash that has one
        one[cells // len(self.names)] = cells % len(self.names)
        a, b = self.copies.pairs.T
        both = (holders[a] > 0) & (holders[b] > 0)
        agree = (holders[a] == 1) & (holders[b] == 1) & (one[a] == one[b])
        crossing = both & ~agree
        similarity = np.where(holders > 1, 1.0, -1.0)
        across = 1 - self.copies.distance[crossing] / BITS
        np.maximum.at(similarity, a[crossing], across)
        np.maximum.at(similarity, b[crossing], across)
        disputed = np.flatnonzero(similarity >= 0)
        inside = both & (similarity[a] >= 0) & (similarity[b] >= 0)
        edges = np.searchsorted(disputed, self.copies.pairs[inside])
        joined = components(edges, count=len(disputed))
        rows = rows[similarity[code] >= 0]
        group = joined[np.searchsorted(disputed, self.code[rows])]
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order])) + 1
        parts = np.split(rows[order], starts) if len(rows) else []
        return [(part, similarity[self.code[part]]) for part in parts]

    def _merges(self, groups: list[tuple[Ints, Floats]]) -> dict[int, int]:
        """Propose merges; returns identity → the identity it would be part of."""
        shared: Counter[tuple[int, int]] = Counter()
        for members, _ in groups:
            people = np.unique(self.who[members]).tolist()
            if len(people) <= CROWD:
                shared.update(combinations(people, 2))
        edges = {pair: count for pair, count in shared.items() if count >= SHARED_GROUPS}
        named = self.train.loc[self.accepted & ~self.settled, ["identity", "person_name"]]
        numbers = {name: k for k, name in enumerate(self.names)}
        alike: set[int] = set()
        for _, same in named.dropna().drop_duplicates().groupby("person_name")["identity"]:
            people = sorted(numbers[name] for name in same)
            if len(set(people) - self.fixed) > 1:
                alike |= set(people) - self.fixed
            for pair in pairwise(people):
                edges.setdefault(pair, 0)
        usable = [pair for pair in sorted(edges) if not self.fixed & set(pair)]
        joined = components(np.array(usable, np.int64).reshape(-1, 2), count=len(self.names))
        parts: dict[int, list[int]] = defaultdict(list)
        most: Counter[int] = Counter()  # identity → groups it shares with one of the others
        for pair in usable:
            for who in pair:
                most[who] = max(most[who], edges[pair])
        for who in sorted(most):
            parts[int(joined[who])].append(who)
        merged: dict[int, int] = {}
        for people in parts.values():
            target = min(people, key=lambda k: (-self.images[k], k))
            merged |= dict.fromkeys(people, target)
            for other in (k for k in people if k != target):
                reason = "same_name" if other in alike else "shared_photos"
                score = 1.0 if other in alike else float(most[other])
                self._identity("merge", other, self.names[target], reason, score)
                some = [self._rows(k)[:EXAMPLES] for k in (target, other)]
                self.groups[reason].append(np.concatenate(some).tolist())
        return merged

    def _conflict(self, members: Ints, similarity: Floats) -> None:
        people, counts = np.unique(self.who[members], return_counts=True)
        most = int(counts.argmax())
        majority = int(people[most]) if 2 * counts[most] > len(members) else None
        free = ~self.decided[members]
        if majority is None:
            free &= self.accepted[members]
        else:
            free &= self.who[members] != majority
        theirs = members[(self.who[members] == majority) & self.accepted[members]].tolist()
        best = max(map(self._quality, theirs), default=(0.0, 0.0))
        for row, score in zip(members[free].tolist(), similarity[free].tolist(), strict=True):
            # A worse copy would only be proposed again, as a near duplicate there.
            wanted = not self.accepted[row] or self._quality(row) > best
            action, to = (
                ("drop", "")
                if majority is None or not wanted
                else ("relabel", self.names[majority])
            )
            self.found.append((action, row, to, "label_conflict_near", score))
        self.settled[members[free]] = True
        if free.any():
            self.groups["label_conflict_near"].append(members.tolist())

    def _quality(self, row: int) -> tuple[float, float]:
        """By which the best of several copies is chosen: the larger, then the sharper."""
        side, sharpness = (self.train[name].to_numpy(float)[row] for name in ("side", "sharpness"))
        return float(side), float(sharpness)

    def _duplicates(self) -> None:
        """Per identity from the best image on: propose to drop what is near one that stays."""
        rows = np.flatnonzero(self.accepted & ~self.settled & (self.code >= 0))
        keys, cell = np.unique(
            self.code[rows] * len(self.names) + self.who[rows], return_inverse=True
        )
        starts, others, apart = self._near_cells(keys)
        crowded = (np.bincount(cell, minlength=len(keys)) > 1) | (np.diff(starts) > 0)
        chosen = crowded[cell]
        rows, cell = rows[chosen], cell[chosen]
        side, sharpness = (self.train[name].to_numpy()[rows] for name in ("side", "sharpness"))
        order = np.lexsort((rows, -sharpness, -side, ~self.decided[rows], self.who[rows]))
        stays: dict[int, int] = {}  # cell → its image that stays
        groups: dict[int, list[int]] = {}
        for row, at in zip(rows[order].tolist(), cell[order].tolist(), strict=True):
            span = slice(starts[at], starts[at + 1])
            near = zip(apart[span].tolist(), others[span].tolist(), strict=True)
            close = [(d, stays[c]) for d, c in ((0, at), *near) if c in stays]
            if close and not self.decided[row]:
                distance, best = min(close)
                self.found.append(("drop", row, "", "near_duplicate", 1 - distance / BITS))
                groups.setdefault(best, [best]).append(row)
            else:
                stays.setdefault(at, row)
        self.groups["near_duplicate"] = list(groups.values())

    def _near_cells(self, keys: Ints) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.int16]]:
        """Which cells (a hash of an identity) lie near each other within one identity.

        `keys` (N,): code · identities + identity, ascending. Returns starts (N + 1,), others and
        distances: those of cell k from starts[k] to starts[k + 1].
        """
        people = len(self.names)
        ones = [np.zeros(0, np.int32)]
        others = [np.zeros(0, np.int32)]
        apart = [np.zeros(0, np.int16)]
        for begin in range(0, len(self.copies.pairs), BLOCK):
            pairs = self.copies.pairs[begin : begin + BLOCK]
            bounds = np.searchsorted(keys, pairs * people)
            counts = np.searchsorted(keys, (pairs + 1) * people) - bounds
            # The cells of the hash that fewer identities have are looked up beside the other hash.
            every, few = np.arange(len(pairs)), counts.argmin(axis=1)
            size = counts[every, few]
            pair = np.repeat(every, size)
            place = np.arange(len(pair)) - np.repeat(np.cumsum(size) - size, size)
            cell = np.repeat(bounds[every, few], size) + place
            wanted = np.repeat(pairs[every, 1 - few], size) * people + keys[cell] % people
            there = np.searchsorted(keys, wanted)
            found = np.flatnonzero(keys[np.minimum(there, len(keys) - 1)] == wanted)
            distance = self.copies.distance[begin : begin + BLOCK][pair[found]]
            ones += [cell[found].astype(np.int32), there[found].astype(np.int32)]
            others += ones[:-3:-1]
            apart += [distance.astype(np.int16)] * 2
        one = np.concatenate(ones)
        order = np.argsort(one, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=len(keys)))])
        return starts, np.concatenate(others)[order], np.concatenate(apart)[order]

    def _rows(self, who: int) -> Ints:
        """The rows of an identity."""
        return self.order[self.starts[who] : self.starts[who + 1]]

    def _identity(self, action: str, who: int, to: str, reason: str, score: float) -> None:
        """A line about an identity, through the first row that states it."""
        for row in self._rows(who).tolist():
            said, dataset = self.train["stated_identity"].iat[row], self.train["dataset"].iat[row]
            if self.names[who] in (said, f"{dataset}/{said}"):
                self.found.append((action, row, to, reason, score))
                return

    def _table(self) -> pd.DataFrame:
        action, row, to, reason, score = zip(*self.found, strict=True) if self.found else [()] * 5
        rows = self.train.iloc[list(row)]
        ids = rows["own_id"].reset_index(drop=True)
        whole = pd.Series(reason, dtype="str").isin(WHOLE)
        table = pd.DataFrame(
            {
                "action": pd.Series(action, dtype="str"),
                "dataset": rows["dataset"].reset_index(drop=True),
                "id": ids.where(~whole, ""),
                "identity": rows["stated_identity"].reset_index(drop=True),
                "to": pd.Series(to, dtype="str"),
                "reason": pd.Series(reason, dtype="str"),
                "score": np.round(np.array(score, float), 4),
            }
        )
        return table[list(COLUMNS)].sort_values(
            ["reason", "dataset", "identity", "id"], kind="stable"
        )
