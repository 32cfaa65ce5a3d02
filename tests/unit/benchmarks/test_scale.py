"""The plan for large sets: a schedule with the properties of one, from numbers with a source."""

import json
import random
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from benchmarks.scale import SHOWN, Prices, cost, figures, job, main, table
from benchmarks.scale_inputs import (
    ASSUMED,
    COUNTED,
    GIVEN,
    MEASURED,
    NETWORKS,
    PUBLISHED,
    Rate,
    datasets,
)
from benchmarks.scale_plan import PARTS, STAGES, Job, Task, bottleneck, make_plan, simulate
from facewright.datasets.form import SHARD_BYTES
from pipelines.cluster import load

ROOT = Path(__file__).parents[3]
SETS = list(datasets())


def changed(one: Job, rate: str, factor: float) -> Job:
    of = one.rates[rate]
    return replace(one, rates=dict(one.rates) | {rate: replace(of, value=of.value * factor)})


def with_epochs(one: Job, stage: str, factor: float) -> Job:
    section = one.recipe[stage]
    longer = dict(section) | {"epochs": int(one.of(stage, "epochs") * factor)}
    return replace(one, recipe=dict(one.recipe) | {stage: longer})


# --- the schedule --------------------------------------------------------------------------------


def test_a_schedule_worked_out_by_hand() -> None:
    """Two places, one line: the third task waits for a place, the last for all, and it halts."""
    tasks = [
        Task("a", "pods", compute_s=4, read=2),
        Task("a", "pods", compute_s=1, read=3),  # its bytes come from second 2 to 5
        Task("a", "pods", compute_s=3),  # begins when the first ends
        Task("b", "pods", after=(0, 1, 2), compute_s=1, written=2, halt_s=5),
    ]
    runs = simulate(tasks, places={"pods": 2}, read_s=1, write_s=2)
    assert [(run.start, run.end) for run in runs] == [(0, 4), (0, 5), (4, 7), (7, 16)]


@pytest.mark.parametrize("seed", range(20))
def test_no_schedule_is_shorter_than_its_work_or_longer_than_its_sum(seed: int) -> None:
    draw = random.Random(seed)
    places = {"pods": draw.randint(1, 4), "gpus": 1}
    tasks = [
        Task(
            "x",
            draw.choice(list(places)),
            after=tuple(draw.sample(range(k), min(k, draw.randint(0, 2)))),
            compute_s=draw.random(),
            read=draw.random(),
            written=draw.choice((0.0, draw.random())),
            halt_s=draw.choice((0.0, draw.random())),
        )
        for k in range(40)
    ]
    runs = simulate(tasks, places=places, read_s=0.3, write_s=0.5)
    end = max(run.end for run in runs)
    lines = [task.read * 0.3 + task.written * 0.5 for task in tasks]
    alone = [
        max(task.compute_s, line) + task.halt_s for task, line in zip(tasks, lines, strict=True)
    ]
    assert end >= sum(lines)
    for pool, many in places.items():
        own = [k for k, task in enumerate(tasks) if task.pool == pool]
        assert end >= sum(alone[k] for k in own) / many
        for k in own:
            at_once = [j for j in own if runs[j].start <= runs[k].start < runs[j].end]
            assert len(at_once) <= many
    for task, run, least in zip(tasks, runs, alone, strict=True):
        assert run.end - run.start >= least - 1e-9
        assert all(runs[before].end <= run.start for before in task.after)
    assert end <= sum(task.compute_s + task.halt_s for task in tasks) + sum(lines) + 1e-9


@pytest.mark.parametrize("dataset", SETS)
def test_more_workers_or_gpus_are_never_slower(dataset: str) -> None:
    for name in ("workers", "gpus"):
        hours = [make_plan(job(dataset, **{name: 2**k})).hours for k in range(8)]
        assert all(more <= fewer + 1e-9 for fewer, more in pairwise(hours))
        assert hours[-1] < hours[0]


def test_workers_shorten_align_until_the_line_is_full() -> None:
    one, four = (
        make_plan(job("vggface2", workers=n, network_mb_per_s=1e5)).stage_hours("align")
        for n in (1, 4)
    )
    assert one / four == pytest.approx(4, rel=0.05)
    plan = make_plan(job("vggface2"))
    enough = figures(plan, Prices())["align_workers_at_most"]
    fewer, many, more = (
        make_plan(job("vggface2", workers=n)).stage_hours("align")
        for n in (enough - 1, enough, 1000)
    )
    assert fewer > many == pytest.approx(more, rel=0.05)
    read, write = (plan.job.rate(f"{way}_mb_per_s") * 1e6 for way in ("read", "write"))
    assert more >= (plan.job.photo_bytes / read + plan.job.crop_bytes / write) / 3600


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("stage", ["train", "distill"])
def test_hours_grow_with_epochs_and_no_other_stage_does(dataset: str, stage: str) -> None:
    once = job(dataset)
    plan, longer = make_plan(once), make_plan(with_epochs(once, stage, 3))
    # A set that stays in memory is read in the first epoch only.
    assert longer.stage_hours(stage) == pytest.approx(3 * plan.stage_hours(stage), rel=0.02)
    for other in set(STAGES) - {stage}:
        assert longer.stage_hours(other) == pytest.approx(plan.stage_hours(other))


def test_stages_follow_one_another() -> None:
    plan = make_plan(job("casia"))
    ends = dict.fromkeys(STAGES, 0.0)
    for task, run in zip(plan.tasks, plan.runs, strict=True):
        ends[task.stage] = max(ends[task.stage], run.end)
        before = STAGES[: STAGES.index(task.stage)]
        assert all(ends[stage] <= run.start for stage in before)
    assert plan.hours == pytest.approx(sum(plan.stage_hours(stage) for stage in STAGES))


# --- the bottleneck ------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", SHOWN)
def test_the_bottleneck_is_what_shortens_the_plan_most(shown: tuple[str, str | None, int]) -> None:
    plan = make_plan(job(*shown))
    found = bottleneck(plan)
    left = {
        stage: make_plan(plan.job, {(stage, part): 2.0 for part in PARTS}).hours for stage in STAGES
    }
    assert min(left.values()) == left[found.stage]
    assert found.saved_hours == pytest.approx(plan.hours - left[found.stage])
    parts = make_plan(plan.job, {(found.stage, part): 2.0 for part in found.parts})
    assert plan.hours - parts.hours >= 0.8 * found.saved_hours > 0


def test_the_bottleneck_moves_with_what_is_slow() -> None:
    one = job("casia")
    assert bottleneck(make_plan(changed(one, "align_detect", 1e-3))).stage == "align"
    assert bottleneck(make_plan(with_epochs(one, "train", 10))).stage == "train"
    slow = job("webface42m", gpus=32, network_mb_per_s=20)
    fast = job("webface42m", gpus=32, network_mb_per_s=20_000)
    assert bottleneck(make_plan(slow)).parts == ("reading",)
    assert bottleneck(make_plan(fast)).parts == ("computing",)


# --- sizes and rates -----------------------------------------------------------------------------


def test_centres_are_spread_and_sampling_saves() -> None:
    eight, sixteen = job("webface42m", gpus=8), job("webface42m", gpus=16)
    for sampled in (False, True):
        assert eight.classifier_bytes(sampled=sampled) == pytest.approx(
            2 * sixteen.classifier_bytes(sampled=sampled)
        )
    assert eight.classifier_bytes(sampled=True) < eight.classifier_bytes(sampled=False) / 2
    # Weights, gradients and momenta of all centres are the least: docs/guides/training.md.
    assert eight.classifier_bytes(sampled=False) > 3 * 2_059_906 / 8 * 512 * 4


def test_training_takes_the_gpu_hours_that_the_recipes_state() -> None:
    """Those are crops × epochs ÷ the published rate; here checkpoints and waiting come on top."""
    for dataset, network, least, most in (
        ("casia", None, 6.4, 6.8),
        ("vggface2", None, 24.5, 26),
        ("ms1mv2", "mobilefacenet_wide", 48, 65),
        ("ms1mv2", None, 75, 95),
    ):
        plan = make_plan(job(dataset, network))
        assert least <= plan.stage_hours("train") * 8 <= most


def test_a_rate_of_ones_own_is_taken_as_it_is() -> None:
    one = job("webface42m", gpu_images_per_s=900.0)
    assert one.gpu_seconds() == 1 / 900
    assert one.rates["gpu_images_per_s"].kind == GIVEN
    logged = job("webface42m")
    assert logged.gpu_seconds() > 1 / logged.rate("gpu_images_per_s"), "two million centres"


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_rate_says_who_measured_it(dataset: str, network: str) -> None:
    one = job(dataset, network)
    rates: dict[str, Rate] = dict(one.rates) | {"photo_bytes": one.data.photo_bytes}
    for name, rate in rates.items():
        assert rate.value > 0, name
        assert rate.kind in (MEASURED, COUNTED, PUBLISHED, ASSUMED), name
        path = re.split(r"[:, ]", rate.source)[0]
        if rate.kind == MEASURED:
            assert path.startswith("docs/results/") or path == "docs/guides/remote.md"
        if rate.kind == PUBLISHED:
            assert not path.startswith("docs/results/"), f"{name}: nobody published that"
        if path.startswith(("docs/", "src/", "k8s/")) and "*" not in path:
            assert (ROOT / path).exists(), f"{name}: {path}"
    assert rates["gpu_images_per_s"].kind == PUBLISHED
    for name in rates:
        if name.startswith(("gpu", "classifier_seconds")):
            assert rates[name].kind == PUBLISHED, f"{name}: no GPU was at hand"


def test_measured_rates_are_those_of_the_results() -> None:
    def of(name: str) -> dict[str, float]:
        text = (ROOT / f"docs/results/2026-11-{name}.json").read_text()
        found: dict[str, float] = json.loads(text)["result"]
        return found

    one = job("ms1mv2")
    assert one.rate("align_aligned") == of("scale-photos")["align_aligned_per_cpu_s"]
    assert one.rate("bootstrap") == of("evaluation")["bootstrap_1000_s"]
    # 919 MB at 500,000 photos, as docs/guides/ms1m.md has it.
    held = one.rate("validate_memory") + 500_000 * one.rate("validate_memory_each")
    assert held == pytest.approx(919e6)
    assert one.rate("shard_mib") * 2**20 == SHARD_BYTES


def test_nodes_are_those_of_the_training_runtime() -> None:
    text = (ROOT / "k8s/base/training-runtime.yaml").read_text()
    found = re.search(r"requests:\n\s+cpu: \"(\d+)\"\n\s+memory: (\d+)Gi\n.*gpu: \"(\d+)\"", text)
    assert found is not None
    cores, memory, gpus = map(int, found.groups())
    one = job("casia")
    assert (one.rate("cores_per_gpu"), one.rate("node_memory_per_gpu")) == (
        cores / gpus,
        memory / gpus,
    )
    assert gpus == 4


def test_recipes_are_read_where_they_are() -> None:
    for dataset, name in (("casia", "casia-iresnet50"), ("ms1mv2", "ms1m-iresnet100")):
        text = yaml.safe_load((ROOT / f"docs/recipes/{name}.yaml").read_text())
        assert job(dataset).of("train", "epochs") == text["train"]["epochs"]
    assert job("ms1mv2", "mobilefacenet_wide").of("train", "epochs") == 40


# --- what is told --------------------------------------------------------------------------------


def test_cost_is_the_formula_and_nothing_without_prices() -> None:
    plan = make_plan(job("casia"))
    assert cost(plan, Prices()) == {}
    assert set(cost(plan, Prices(gpu_hour=2))) == {"gpus"}, "no sum while a price is missing"
    found = cost(plan, Prices(2, 0.05, 0.02))
    expected = plan.gpu_hours * 2 + plan.core_hours * 0.05 + plan.stored_bytes / 1e9 * 0.02
    assert found["together"] == pytest.approx(expected)
    gpus = plan.stage_hours("train") * 8 + plan.stage_hours("distill")
    assert found["gpus"] == pytest.approx(2 * gpus)


def test_the_table_of_the_guide_is_what_the_script_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([])
    printed = capsys.readouterr().out
    lines = printed.rstrip("\n").splitlines()
    told = json.loads(lines[-1])
    assert [plan["gpus"] for plan in told["plans"]] == [gpus for *_, gpus in SHOWN]
    shown = table(told["plans"])
    assert printed.startswith(shown)
    assert shown in (ROOT / "docs/guides/scale.md").read_text(), (
        "docs/guides/scale.md has another table: put in that of `python -m benchmarks.scale`"
    )


def test_what_the_guide_says_of_other_plans_is_so() -> None:
    guide = " ".join((ROOT / "docs/guides/scale.md").read_text().split())
    large = job("webface42m")
    train = dict(large.recipe["train"])
    whole, rare = (
        make_plan(replace(large, recipe=dict(large.recipe) | {"train": train | more}))
        for more in ({"sampled_identities": 1.0}, {"checkpoint_every": 10_000})
    )
    mobile = "mobilefacenet_wide"
    fast = make_plan(job("webface42m", gpus=32, network_mb_per_s=1000))
    one = job("casia")
    for said in (
        f"On one GPU it is training: {make_plan(job('casia', gpus=1)).hours:.1f} hours in all",
        f"{make_plan(job('ms1mv2', mobile, 16)).hours:.1f} hours instead of "
        f"{make_plan(job('ms1mv2', mobile, 8)).hours:.1f}, and "
        f"{make_plan(job('ms1mv2', mobile, 16, network_mb_per_s=1000)).hours:.1f} with 1,000 MB/s",
        f"training takes {whole.stage_hours('train'):.0f} hours instead of "
        f"{make_plan(large).stage_hours('train'):.0f}",
        f"With 1,000 MB/s all takes {fast.hours:.0f} hours, and {bottleneck(fast).stage} is the "
        f"longest: {fast.stage_hours('distill'):.0f} hours on one GPU",
        f"Every 1,000 steps they cost {make_plan(large).checkpoint_hours:.1f} hours",
        f"{one.rate('crops_read'):,.0f} decoded a core and second",
        f"{one.rate('classifier_bytes'):,.0f} + 20 ×",
        f"{one.rate('classifier_bytes_sampled'):,.0f} + 2 ×",
        f"{one.rate('validate_join'):,.0f} photos/s",
    ):
        assert said in guide
    assert rare.checkpoint_hours == pytest.approx(0.5, abs=0.05)


def test_memory_that_the_guide_names_for_validate_is_enough_and_the_usual_is_not() -> None:
    guide = (ROOT / "docs/guides/scale.md").read_text()
    usual = load().steps["validate"].memory
    (row,) = [line for line in guide.splitlines() if line.startswith("| memory of validate | 4Gi")]
    for name, memory in (
        ("casia", usual), ("vggface2", usual), ("ms1mv2", "8Gi"), ("webface42m", "48Gi"),
    ):  # fmt: skip
        assert memory in row
        needed = figures(make_plan(job(name)), Prices())["validate_memory_gb"] * 1e9
        gib = int(memory.removesuffix("Gi"))
        assert needed < 0.9 * gib * 2**30
        assert memory == usual or needed > int(usual.removesuffix("Gi")) * 2**30


def test_a_pod_has_room_for_what_it_is_given_and_what_it_writes() -> None:
    one = job("webface42m")
    assert one.pod_bytes == one.photo_bytes + one.crop_bytes  # in align
    many = dict(one.recipe["train"]) | {"checkpoints": 100}
    kept = replace(one, recipe=dict(one.recipe) | {"train": many})
    assert kept.pod_bytes == one.crop_bytes + 100 * one.checkpoint_bytes  # in train
    assert f"({2 * one.crop_bytes / 1e12:.1f} TB" in (ROOT / "docs/guides/scale.md").read_text()


def part_minutes(of: Job, parts: int) -> float:
    """Align in so many parts, as the guide reckons it."""
    read, write = (1e6 * of.rate(f"{way}_mb_per_s") for way in ("read", "write"))
    pod = of.rate(f"align_{of.data.faces}") * of.rate("cores_per_pod")
    seconds = parts * of.photo_bytes / read + of.data.photos / pod / parts + of.crop_bytes / write
    if parts > 1:
        seconds += of.crop_bytes / read + of.data.photos / 8800 + of.crop_bytes / write
    return seconds / 60


def test_what_the_guide_says_of_parts_of_align_is_so() -> None:
    guide = (ROOT / "docs/guides/scale.md").read_text()
    for name in ("casia", "vggface2", "ms1mv2", "webface42m"):
        jobs = [job(name), job(name, network_mb_per_s=1000)]
        cells = [f"{part_minutes(of, parts):,.0f}" for of in jobs for parts in (1, 4)]
        assert f"| {' | '.join([jobs[0].data.title, *cells])} |" in guide


def test_own_numbers_change_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--dataset", "casia", "--gpus", "2", "--gpu-images-per-s", "3000", "--gpu-hour", "3"])
    *_, last = capsys.readouterr().out.rstrip("\n").splitlines()
    (plan,) = json.loads(last)["plans"]
    assert plan["cost"]["gpus"] == pytest.approx(3 * plan["gpu_hours"])
    assert plan["train_images_per_s"] == pytest.approx(6000, rel=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "0"], "0 is not 1 or more"),
        (["--gb-month", "-1"], "-1 is not above 0"),
        (["--gpu-hour", "nan"], "nan is not above 0"),
        (["--gpu-images-per-s", "900"], "name --dataset"),
        (["--dataset", "lfw"], "invalid choice"),
    ],
)
def test_what_makes_no_plan_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert said in capsys.readouterr().err


def test_every_size_is_told() -> None:
    assert {name for name, *_ in SHOWN} == set(SETS)
    told = figures(make_plan(job("webface42m")), Prices())
    assert told["shards_of_photos"] == -(-told["photos_gb"] * 1e9 // SHARD_BYTES)
    assert told["stored_gb"] > told["photos_gb"] + told["crops_gb"]
