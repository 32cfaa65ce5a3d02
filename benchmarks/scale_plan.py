"""A plan: the graph's stages as tasks, and when each runs on so many workers and GPUs."""

import heapq
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from math import ceil

from benchmarks.scale_inputs import DEPTHWISE, GIVEN, Dataset, Rate

STAGES = ("fetch", "validate", "align", "train", "distill", "evaluate")
PARTS = ("computing", "reading", "checkpoints")
GB, HOUR, MIB = 1e9, 3600.0, 2**20
TAR = 512 + 256  # bytes of a tar member beside its content: header, and padding on average
LOGGED_PEOPLE = 85_742  # in the trainings whose rates are published: MS1MV2
MEASURED_BATCH, LOGITS = 16, 5  # of the memory benchmark; copies of the logits that it reckons with
READERS = 2  # threads with which distill reads; train has as many as its node has cores


@dataclass(frozen=True)
class Task:
    """A piece of a stage. It computes while its bytes move, and ends when both are done."""

    stage: str
    pool: str  # what it takes one of while it runs
    after: tuple[int, ...] = ()  # places in the list, all before its own
    compute_s: float = 0.0
    read: float = 0.0  # bytes
    written: float = 0.0
    halt_s: float = 0.0  # in which nothing else happens: a checkpoint is written


@dataclass(frozen=True)
class Run:
    start: float  # seconds
    end: float


def simulate(
    tasks: Sequence[Task], *, places: Mapping[str, int], read_s: float, write_s: float
) -> list[Run]:
    """When each task runs: first come, first served, as soon as all that it waits for is done.

    All share one line to the store, which serves one task after the other; `read_s`, `write_s`:
    seconds a byte.
    """
    open_needs = [len(task.after) for task in tasks]
    unlocks: dict[int, list[int]] = defaultdict(list)
    for number, task in enumerate(tasks):
        for before in task.after:
            unlocks[before].append(number)
    ready: dict[str, deque[int]] = {pool: deque() for pool in places}
    for number, task in enumerate(tasks):
        if not task.after:
            ready[task.pool].append(number)
    free, runs = dict(places), [Run(0, 0)] * len(tasks)
    running: list[tuple[float, int]] = []
    now = line_free = 0.0
    while True:
        for pool, queue in ready.items():
            while queue and free[pool]:
                number = queue.popleft()
                task, end = tasks[number], now + tasks[number].compute_s
                if moving := task.read * read_s + task.written * write_s:
                    line_free = max(now, line_free) + moving
                    end = max(end, line_free)
                end += task.halt_s
                free[pool] -= 1
                runs[number] = Run(now, end)
                heapq.heappush(running, (end, number))
        if not running:
            return runs
        now, number = heapq.heappop(running)
        free[tasks[number].pool] += 1
        for later in unlocks[number]:
            open_needs[later] -= 1
            if not open_needs[later]:
                ready[tasks[later].pool].append(later)


@dataclass(frozen=True)
class Job:
    """What is to be planned."""

    data: Dataset
    recipe: Mapping[str, Mapping[str, object]]  # train and distill
    rates: Mapping[str, Rate]
    gpus: int
    workers: int

    def rate(self, name: str) -> float:
        return self.rates[name].value

    def of(self, stage: str, key: str) -> float:
        value = self.recipe[stage][key]
        assert isinstance(value, int | float)
        return float(value)

    @property
    def sampled(self) -> bool:
        return self.of("train", "sampled_identities") < 1

    @property
    def photo_bytes(self) -> float:
        return self.data.photos * (self.data.photo_bytes.value + TAR)

    @property
    def crop_bytes(self) -> float:
        return self.data.photos * (self.rate("crop_bytes") + TAR)

    @property
    def checkpoint_bytes(self) -> float:
        """Weights and momenta of the network and of all centres, fp32."""
        centres = self.data.people * self.of("train", "embedding_size") * 4
        return 2 * (self.rate("teacher_file") * 1e6 + centres)

    @property
    def kept_bytes(self) -> float:
        """All checkpoints that are kept."""
        return self.of("train", "checkpoints") * self.checkpoint_bytes

    @property
    def pod_bytes(self) -> float:
        """On the disk of the fullest pod of the pipeline, align's or train's: what it is given and
        what it writes."""
        return self.crop_bytes + max(self.photo_bytes, self.kept_bytes)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return ceil(self.data.photos / self.of("train", "batch_size"))

    def shards(self, size: float) -> int:
        return ceil(size / (self.rate("shard_mib") * MIB))

    @property
    def align_workers_at_most(self) -> int:
        """More wait for the line to the store, and change nothing."""
        rate = self.rate(f"align_{self.data.faces}") * self.rate("cores_per_pod")
        read, write = (self.rate(f"{way}_mb_per_s") * 1e6 for way in ("read", "write"))
        moving = self.photo_bytes / read + self.crop_bytes / write
        return ceil(self.data.photos / rate / moving)

    def classifier_bytes(self, *, sampled: bool) -> float:
        """On each GPU: centres with all that learning takes, and the logits of a step."""
        name = "classifier_bytes" + ("_sampled" if sampled else "")
        batch = self.of("train", "batch_size") - MEASURED_BATCH
        logits = batch * 4 * LOGITS * (0.1 if sampled else 1)
        return self.data.people / self.gpus * (self.rate(name) + logits)

    def gpu_seconds(self) -> float:
        """Of training, a crop. A rate of one's own holds for these people; a log's for its own."""
        seconds = 1 / self.rate("gpu_images_per_s")
        if self.rates["gpu_images_per_s"].kind == GIVEN:
            return seconds
        name = "classifier_seconds" + ("_sampled" if self.sampled else "")
        return seconds + self.rate(name) * max(0, self.data.people - LOGGED_PEOPLE)

    def kept_speed(self) -> float:
        """Share of its rate on eight that a GPU keeps: linear between what is published."""
        known = sorted((int(k[5:]), r.value) for k, r in self.rates.items() if k[:5] == "gpus_")
        for (few, before), (many, after) in pairwise(known):
            if few < self.gpus <= many:
                return before + (after - before) * (self.gpus - few) / (many - few)
        return 1.0 if self.gpus <= known[0][0] else known[-1][1]


def build(job: Job) -> list[Task]:
    """The tasks of the graph, but those that are minutes at any size: quantize, compile, gate…"""
    data, cores = job.data, job.rate("cores_per_pod")
    tasks = [Task("fetch", "pods", read=job.photo_bytes, written=job.photo_bytes)]
    shards = job.shards(job.photo_bytes)
    part, photos = job.photo_bytes / shards, data.photos / shards

    def over_shards(stage: str, rate: str, after: int, written: float) -> tuple[int, ...]:
        compute = photos / job.rate(rate) / cores
        task = Task(stage, "pods", (after,), compute, read=part, written=written)
        tasks.extend([task] * shards)
        return tuple(range(len(tasks) - shards, len(tasks)))

    def then(task: Task) -> int:
        tasks.append(task)
        return len(tasks) - 1

    measured = over_shards("validate", f"measure_{data.pixels}", 0, 0.0)
    joined = then(Task("validate", "pods", measured, data.photos / job.rate("validate_join")))
    crops = over_shards("align", f"align_{data.faces}", joined, job.crop_bytes / shards)
    last = _epochs(job, tasks, "train", crops)
    last = _epochs(job, tasks, "distill", (last,))
    faces = job.rate("verification_photos")
    then(
        Task(
            "evaluate", "pods", (last,), _evaluate_seconds(job),
            read=faces * (job.rate("crop_bytes") + TAR),
        )
    )  # fmt: skip
    return tasks


def _epochs(job: Job, tasks: list[Task], stage: str, after: tuple[int, ...]) -> int:
    """A task per epoch; the place of the last."""
    gpus = job.gpus if stage == "train" else 1  # distill is one process
    decoded = job.rate("crops_read") * (job.rate("cores_per_gpu") * gpus)
    writes = 0.0
    if stage == "train":
        seconds = job.gpu_seconds() / (gpus * job.kept_speed())
        checkpoints = job.steps / job.of("train", "checkpoint_every")
        writes = checkpoints * job.checkpoint_bytes / (job.rate("write_mb_per_s") * 1e6)
    else:
        # The teacher runs forward, a third of its training; the student in all three parts.
        share = 1 / 3 + job.rate("student_multiply_adds") / job.rate("teacher_multiply_adds")
        seconds = share / job.rate("gpu_images_per_s")
        decoded = job.rate("crops_read") * READERS
    compute = job.data.photos * max(seconds, 1 / decoded)
    # Half of a node's memory may hold crops from epoch to epoch; a node has four GPUs.
    stays = job.crop_bytes <= min(gpus, 4) * job.rate("node_memory_per_gpu") * 2**30 / 2
    for epoch in range(int(job.of(stage, "epochs"))):
        read = 0.0 if stays and epoch else job.crop_bytes
        tasks.append(Task(stage, "gpus", after, compute, read=read, halt_s=writes))
        after = (len(tasks) - 1,)
    return after[0]


def _evaluate_seconds(job: Job) -> float:
    """Teacher, student and INT8 on one pod, each crop and its mirror image; intervals."""
    cores = job.rate("cores_per_pod")
    adds = job.rate("teacher_multiply_adds")
    # Forward is a third of a training step.
    teacher = 3 * job.rate("cpu_training") * job.rate("cpu_training_multiply_adds") / adds
    if job.recipe["train"]["network"] in DEPTHWISE:
        slow = job.rate("depthwise_cpu") * job.rate("depthwise_multiply_adds") / adds
        teacher = min(teacher, slow * cores)
    students = (job.rate("student_cpu") * cores, job.rate("student_int8_cpu") * cores)
    each = sum(1 / rate for rate in (teacher, *students))
    return 2 * job.rate("verification_photos") * each + 3 * job.rate("bootstrap")


@dataclass(frozen=True)
class Plan:
    job: Job
    tasks: list[Task]
    runs: list[Run]

    @property
    def hours(self) -> float:
        return max(run.end for run in self.runs) / HOUR

    def stage_hours(self, stage: str) -> float:
        """From the start of its first task to the end of its last."""
        own = [run for task, run in zip(self.tasks, self.runs, strict=True) if task.stage == stage]
        return (max(run.end for run in own) - min(run.start for run in own)) / HOUR

    @property
    def checkpoint_hours(self) -> float:
        return sum(task.halt_s for task in self.tasks) / HOUR

    def taken_hours(self, pool: str) -> float:
        """Sum over the tasks of a pool, waiting for bytes included."""
        both = zip(self.tasks, self.runs, strict=True)
        return sum(run.end - run.start for task, run in both if task.pool == pool) / HOUR

    @property
    def gpu_hours(self) -> float:
        return self.stage_hours("train") * self.job.gpus + self.stage_hours("distill")

    @property
    def core_hours(self) -> float:
        return self.taken_hours("pods") * self.job.rate("cores_per_pod")

    @property
    def moved_bytes(self) -> float:
        """To and from the store, and the volume that training reads and writes."""
        job = self.job
        checkpoints = job.steps * job.of("train", "epochs") / job.of("train", "checkpoint_every")
        tasks = sum(task.read + task.written for task in self.tasks)
        return tasks + int(checkpoints) * job.checkpoint_bytes

    @property
    def stored_bytes(self) -> float:
        return self.job.photo_bytes + self.job.crop_bytes + self.job.kept_bytes


def make_plan(job: Job, faster: Mapping[tuple[str, str], float] | None = None) -> Plan:
    """`faster`: how many times as fast a stage is in one of `PARTS`; to ask what it would earn."""
    tasks = build(job)
    if faster:
        tasks = [_sped(task, faster) for task in tasks]
    runs = simulate(
        tasks,
        places={"pods": job.workers, "gpus": 1},  # a training takes all GPUs
        read_s=1e-6 / job.rate("read_mb_per_s"),
        write_s=1e-6 / job.rate("write_mb_per_s"),
    )
    return Plan(job, tasks, runs)


def _sped(task: Task, faster: Mapping[tuple[str, str], float]) -> Task:
    computing, reading, checkpoints = (faster.get((task.stage, part), 1.0) for part in PARTS)
    return replace(
        task,
        compute_s=task.compute_s / computing,
        read=task.read / reading,
        written=task.written / reading,
        halt_s=task.halt_s / checkpoints,
    )


@dataclass(frozen=True)
class Bottleneck:
    stage: str
    parts: tuple[str, ...]  # of PARTS, the fewest that earn nearly all of it
    saved_hours: float  # of the whole plan, were the stage twice as fast


NEARLY = 0.8


def bottleneck(plan: Plan) -> Bottleneck:
    """The stage whose double speed shortens the plan most, and what in it does."""

    def saved(stage: str, parts: tuple[str, ...]) -> float:
        sped = make_plan(plan.job, {(stage, part): 2.0 for part in parts})
        return plan.hours - sped.hours

    stage = max(STAGES, key=lambda stage: saved(stage, PARTS))
    whole = saved(stage, PARTS)
    for count in range(1, len(PARTS)):
        best = max(combinations(PARTS, count), key=lambda parts: saved(stage, parts))
        if saved(stage, best) >= NEARLY * whole:
            return Bottleneck(stage, best, whole)
    return Bottleneck(stage, PARTS, whole)
