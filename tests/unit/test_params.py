import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from facewright import params
from facewright.errors import ParamsError
from facewright.models import NETWORKS
from facewright.models.heads import HEADS

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.yaml"))
FILES = [ROOT / "params.yaml", *RECIPES]
GUIDE = (ROOT / "docs" / "guides" / "training.md").read_text()
TRIPLET = {"name": "triplet", "margin": 0.2}
SOFTMAX = {"name": "softmax"}
MAGFACE = {"name": "magface", "scale": 64.0, "l_a": 10.0, "u_a": 110.0, "l_m": 0.45, "u_m": 0.8}
MAGFACE |= {"lambda_g": 35.0}
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the project's own parameters in it."""
    (tmp_path / "mlflow").mkdir()
    for name in (params.PARAMS, params.POLICY):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(section: str | None, key: str, value: Any) -> None:
    values = yaml.safe_load(params.PARAMS.read_text())
    (values[section] if section else values)[key] = value
    params.PARAMS.write_text(yaml.safe_dump(values))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_params_file_is_complete_and_valid(file: Path) -> None:
    values = yaml.safe_load(file.read_text())
    assert set(values) == set(params.SECTIONS)
    for name, section in params.SECTIONS.items():
        params.check(section, values[name], where=file.name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_begins_with_its_cost_and_result_and_whether_it_was_run(file: Path) -> None:
    head = file.read_text().partition("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert re.search(r"^# Cost: .*(hour|minute)", head, flags=re.MULTILINE)
    run = "Was run on" in head
    assert run != ("Was not run here." in head)
    assert re.search(r"^# Result: .*%" if run else r"^# Expected: .*LFW", head, flags=re.MULTILINE)
    listing = ROOT / "docs" / "recipes" / "README.md"
    listed = re.findall(r"\]\(([^)]*\.yaml)\)", listing.read_text())
    assert file in [(listing.parent / path).resolve() for path in listed]


def test_large_recipes_train_as_their_sources_say() -> None:
    """The values of ArcFace's paper, and of arcface_torch's logs of MS1MV2."""
    train = {file.stem: yaml.safe_load(file.read_text())["train"] for file in RECIPES}
    for name in ("casia-iresnet50", "vggface2-iresnet50", "ms1m-mobilefacenet", "ms1m-iresnet100"):
        assert train[name]["head"] == {"name": "arcface", "scale": 64.0, "margin": 0.5}
        assert (train[name]["optimizer"], train[name]["learning_rate"]) == ("sgd", 0.1)
        assert (train[name]["embedding_size"], train[name]["label_smoothing"]) == (512, 0.0)
        changes = train[name]["augmentation"]
        on = {key for key, value in changes.items() if value and not isinstance(value, list)}
        assert on == {"flip"}
    casia = train["casia-iresnet50"]
    steps = casia["epochs"] * 494_414 / casia["batch_size"]
    assert steps == pytest.approx(32_000, rel=0.01)
    assert [share * steps for share in casia["schedule"]["at"]] == pytest.approx(
        [20_000, 28_000], rel=0.01
    )
    wanted = {"ms1m-mobilefacenet": (40, 227_440, 1e-4), "ms1m-iresnet100": (20, 113_720, 5e-4)}
    for name, (epochs, steps, decay) in wanted.items():
        assert (train[name]["epochs"], train[name]["weight_decay"]) == (epochs, decay)
        assert epochs * 5_822_653 / train[name]["batch_size"] == pytest.approx(steps, rel=0.001)
        assert train[name]["schedule"] == {"name": "polynomial", "power": 2.0}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split(":")[0])
def test_examples_of_the_guide_are_valid(example: str) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    changes = yaml.safe_load(example)
    assert set(changes) <= set(values)
    params.check(params.Train, values | changes, where="docs/guides/training.md")


def test_the_guide_tells_of_every_head_and_its_options() -> None:
    table = {
        row[0]: set(row[1:]) for row in re.findall(r"^\| `(\w+)` \| ([^|]*)", GUIDE, re.MULTILINE)
    }
    told = {name: set(re.findall(r"`(\w+)`", *cell)) for name, cell in table.items()}
    assert {name: told.get(name) for name in HEADS} == {n: set(keys) for n, keys in HEADS.items()}


def test_every_key_of_params_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    keys = [line for line in lines if line.startswith(" ") and ":" in line]
    explained = {line.split(":")[0].strip() for line in keys if "#" in line}
    # A key that two sections share may be explained once.
    silent = {line.split(":")[0].strip() for line in keys if "#" not in line} - explained
    assert silent == {"seed"}


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "epohs", 3, r"train\.epohs: unknown key: did you mean 'epochs'\?"),
        ("train", "epochs", "three", r"train\.epochs: .*integer, got 'three'"),
        ("train", "epochs", 2.5, r"train\.epochs: .*integer.*2\.5"),
        ("train", "epochs", 0, r"train\.epochs: .*greater than or equal to 1, got 0"),
        (
            "train",
            "head",
            {"name": "arcfase"},
            r"train\.head: .*'arcface'.*got {'name': 'arcfase'}",
        ),
        ("train", "head", {"name": "normface", "scael": 1.0}, r"head\.normface\.scael.*'scale'"),
        ("train", "augmentation", {"flip": 0.5}, r"train\.augmentation\.rotation: missing"),
        ("train", "frozen", True, r"train\.frozen: .*set start, or frozen to false, got True"),
        ("train", "head", TRIPLET, r"train\.label_smoothing: .*set it to 0, got 0\.1"),
        (
            "train",
            "head",
            MAGFACE | {"u_a": 10.0},
            r"train\.head\.magface\.u_a: .*above l_a, .*got 10\.0",
        ),
        (
            "train",
            "head",
            MAGFACE | {"u_m": 0.4},
            r"train\.head\.magface\.u_m: .*not be below l_m, .*got 0\.4",
        ),
        ("compile", "targets", ["86"], r"compile\.targets\.0: .*pattern"),
        ("evaluate", "fmr_targets", [], r"evaluate\.fmr_targets: .*at least 1"),
        (None, "trian", {}, r"unknown section 'trian': did you mean 'train'\?"),
    ],
)
def test_mistakes_are_named(
    folder: Path, section: str | None, key: str, value: Any, message: str
) -> None:
    edit(section, key, value)
    with pytest.raises(ParamsError, match=message) as caught:
        params.load(section or "train")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("params.yaml")


@pytest.mark.parametrize(
    ("head", "batch", "each", "passes", "message"),
    [
        (TRIPLET, 8, None, 1, "two crops"),
        (TRIPLET, 8, 1, 1, "two crops"),
        (TRIPLET, 8, 2, 1, None),
        (TRIPLET, 8, 4, 1, None),
        (TRIPLET, 16, 4, 2, None),
        (TRIPLET, 4, 4, 1, "two people in a pass, .* passes 1 .* raise it to 8 or more"),
        (TRIPLET, 8, 4, 2, "passes 2 batch_size 8 .* raise it to 16 or more"),
        (TRIPLET, 8, 2, 4, "passes 4 batch_size 8 .* raise it to 16 or more"),
        (SOFTMAX, 8, 4, 2, None),
        (SOFTMAX, 10, 4, 1, "batch_size 10 is no multiple of it"),
        (SOFTMAX, 128, 4, 3, None),  # a person's crops may lie in two passes, as on two processes
        (SOFTMAX, 128, 1, 3, None),
        (TRIPLET, 128, 4, 3, "batch_size 128 is no multiple of it, 3 times"),
    ],
)
def test_steps_hold_whole_people_and_passes_of_triplets_two(
    folder: Path,
    head: dict[str, Any],
    batch: int,
    each: int | None,
    passes: int,
    message: str | None,
) -> None:
    edit("train", "head", head)
    edit("train", "label_smoothing", 0.0)
    edit("train", "batch_size", batch)
    edit("train", "passes", passes)
    edit("train", "crops_per_identity", each)
    if message is None:
        params.load("train")
        return
    with pytest.raises(
        ParamsError, match=rf"train\.crops_per_identity: .*{message}.*got {each}"
    ) as caught:
        params.load("train")
    assert "\n" not in str(caught.value)


def test_frozen_with_a_start_is_right(folder: Path) -> None:
    edit("train", "start", "teacher")
    edit("train", "frozen", True)
    loaded = params.load("train")
    assert isinstance(loaded, params.Train)
    assert loaded.frozen


def test_a_mistake_in_a_later_stage_stops_the_first(folder: Path) -> None:
    edit("evaluate", "bootstrp", 10)
    with pytest.raises(ParamsError, match=r"evaluate\.bootstrp: unknown key"):
        params.load("validate")


def test_a_file_that_is_no_text_is_refused(folder: Path) -> None:
    params.PARAMS.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParamsError, match="cannot be read"):
        params.load("train")


def test_a_misspelt_nested_key_is_named(folder: Path) -> None:
    values = yaml.safe_load(params.PARAMS.read_text())
    values["train"]["augmentation"]["rotatoin"] = values["train"]["augmentation"].pop("rotation")
    params.PARAMS.write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError, match="rotat"):
        params.load("train")


def test_the_policy_is_the_gates_section(folder: Path) -> None:
    gate = params.load("gate")
    assert isinstance(gate, params.Gate)
    params.POLICY.write_text(params.POLICY.read_text() + "max_luck: 1\n")
    with pytest.raises(ParamsError, match=r"promotion\.yaml\S*max_luck: unknown key"):
        params.load("gate")


@pytest.mark.parametrize("name", ["", "a b", "it's", "a/b", "-a", ".a", "ä", "a\n", "a" * 101])
def test_a_models_name_fits_into_filters(folder: Path, name: str) -> None:
    values = yaml.safe_load(params.POLICY.read_text())
    params.POLICY.write_text(yaml.safe_dump(values | {"model": name}))
    line = r"promotion\.yaml\S*model: value error, use up to 100 letters, digits, .* got "
    with pytest.raises(ParamsError, match=line) as error:
        params.load("gate")
    assert "\n" not in str(error.value)
    values["model"] = "Team_2.faces-" + "a" * 87
    params.POLICY.write_text(yaml.safe_dump(values))
    gate = params.load("gate")
    assert isinstance(gate, params.Gate)
    assert gate.model == values["model"]


def test_a_missing_file_or_section_says_what_to_do(folder: Path) -> None:
    values = yaml.safe_load(params.PARAMS.read_text())
    del values["align"]
    params.PARAMS.write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError, match="section 'align' is missing: add it"):
        params.load("align")
    params.PARAMS.write_text("train: [")
    with pytest.raises(ParamsError, match="cannot be read as YAML"):
        params.load("train")
    params.PARAMS.unlink()
    with pytest.raises(ParamsError, match=r"params\.yaml is missing"):
        params.load("train")


def test_json_keeps_the_types(folder: Path) -> None:
    """Kubeflow passes a section as a JSON string: whole numbers stay whole."""
    for stage, section in params.SECTIONS.items():
        loaded = params.load(stage)
        assert params.from_json(section, loaded.model_dump_json()) == loaded
    with pytest.raises(ParamsError, match="not JSON"):
        params.from_json(params.Train, "{")


def test_networks_and_heads_are_those_that_there_are() -> None:
    assert get_args(params.Network) == NETWORKS
    members = get_args(get_args(params.Head)[0])
    options = {
        get_args(member.model_fields["name"].annotation)[0]: set(member.model_fields) - {"name"}
        for member in members
    }
    assert options == {name: set(keys) for name, keys in HEADS.items()}
