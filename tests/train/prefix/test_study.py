"""The study from end to end on a tiny made-up set: heads, record, page, plots, and going on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from configs import ConfigError, load
from pipelines.data.reader import InputError
from train.prefix import jobs
from train.prefix.checks import checks
from train.prefix.jobs import Kept
from train.prefix.page import PLOTS
from train.prefix.study import StudyConfig
from train.prefix_study import DEFAULT, study
from train.prefix_study import settings as command_line
from train.report import markdown

SMALL = (
    "seeds=[1, 2]",
    "conditions=[own, v5, mrl]",
    "fit.all.num_epochs=1",
    "fit.own.batch_size=32",
    "sets={clinc: {num_train: 160, num_test: 60}, trec: {num_train: 160, num_test: 60}, hwu64: {}}",
    "three_level.conditions=[own]",
    "noise={conditions: [own], shares: [0.0, 0.5]}",
    "goldilocks={first_blocks: {own: [64]}, groups: [2, 3, 6]}",
    "unseen.conditions=[own]",
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> StudyConfig:
    """Of a study of two sets of 12 intents in 6 domains, and an encoder that knows intents well."""
    folder = tmp_path_factory.mktemp("study")
    domains = {f"{name}": [f"{name} a", f"{name} b"] for name in DOMAINS}
    intents = [intent for inner in domains.values() for intent in inner]
    rows = [[f"text {at}", intents[at % 12]] for at in range(240)]
    clinc = folder / "clinc150"
    clinc.mkdir()
    (clinc / "domains.json").write_text(json.dumps(domains))
    (clinc / "data_full.json").write_text(json.dumps({"train": rows[:180], "test": rows[180:]}))
    for name, some in (("train_5500", rows[:180]), ("TREC_10", rows[180:])):
        lines = [f"D{int(text[5:]) % 12 // 2}:{int(text[5:]) % 12} {text}" for text, _ in some]
        (folder / "trec").mkdir(exist_ok=True)
        (folder / "trec" / f"{name}.label").write_text("\n".join(lines))
    (folder / "encoder").mkdir()
    places = {"data": folder, "encode.cache": folder / "cache", "out": folder / "runs"}
    places |= {"reports": folder / "reports", "encode.encoder.name": folder / "encoder"}
    return load(DEFAULT, StudyConfig, [*SMALL, *(f"{k}={v}" for k, v in places.items())])


DOMAINS = ("banking", "credit cards", "home", "travel", "work", "meta")


def encode(config, work):
    """A pool that gives texts of one intent like vectors, those of one domain less so."""
    rng = np.random.default_rng(0)
    domain, intent = rng.normal(0, 1, (6, 16)), rng.normal(0, 1, (12, 16))
    for at, texts in enumerate(work):
        number = np.array([int(text.split()[1]) for text in texts])
        noise = np.random.default_rng(number[0]).normal(0, 0.5, (len(number), 16))
        yield at, (domain[number % 12 // 2] + intent[number % 12] + noise).astype(np.float16)


@pytest.fixture(scope="module")
def page(settings) -> Path:
    """The finished study's page."""
    return study(settings, encode, jobs.in_process)


def test_page_and_record_say_the_same(page, settings):
    """The page can be made anew from the JSON alone; every part and plot is there."""
    record = json.loads(page.with_suffix(".json").read_text())
    assert markdown(record) == page.read_text()
    assert list(record["parts"]) == [part for part in settings.all_parts if part != "hwu64"]
    assert {"sets", "trend", *record["parts"]} <= set(record)
    assert list(record["sets"]["sets"]) == ["clinc", "trec"]
    for names in PLOTS.values():
        for name in names:
            assert f"(prefix_{name}.png)" in page.read_text()
            assert (page.parent / f"prefix_{name}.png").stat().st_size > 1_000


def test_a_finished_study_trains_nothing_again(page, settings, tmp_path, monkeypatch):
    """A second run takes every head's measures from the first; a lost one alone is made anew."""
    monkeypatch.setattr("train.prefix_study.draw", lambda *_: None)
    settings = settings.model_copy(update={"parts": ("clinc",), "reports": str(tmp_path)})

    def refuse(*_):
        raise AssertionError("nothing is left to do")

    before = json.loads(page.with_suffix(".json").read_text())
    again = json.loads(study(settings, refuse, refuse).with_suffix(".json").read_text())
    assert again["clinc"] == before["clinc"]
    assert again["this_command"]["heads_trained"] == 0
    for lost in (Path(settings.out) / "clinc").glob("own-1-*.json"):
        lost.unlink()
    asked = []

    def only_lost(work, data):
        asked.extend(work)
        return jobs.in_process(work, data)

    study(settings, refuse, only_lost)
    assert [(job.condition, job.seed) for job in asked] == [("own", 1)]


def test_parts_can_be_run_one_by_one(page, settings, tmp_path, monkeypatch, caplog):
    """A report keeps the parts that a command does not name, but for those of other settings."""
    monkeypatch.setattr("train.prefix_study.draw", lambda *_: None)
    whole = json.loads(page.with_suffix(".json").read_text())
    settings = settings.model_copy(update={"reports": str(tmp_path)})

    def run(**update) -> dict:
        written = study(settings.model_copy(update=update), encode, jobs.in_process)
        return json.loads(written.with_suffix(".json").read_text())

    for part in ("noise", "sets", "clinc"):
        record = run(parts=(part,))
    assert list(record["parts"]) == ["clinc", "trec", "noise"]
    assert record["noise"] == whole["noise"]
    assert (record["sets"]["tests"], record["trend"]) == (whole["sets"]["tests"], whole["trend"])
    assert "other settings" not in caplog.text

    record = run(parts=("unseen",), noise=settings.noise.model_copy(update={"shares": (0.0,)}))
    assert list(record["parts"]) == ["clinc", "trec", "unseen"]
    assert "noise" not in record
    assert "left out: noise, made of other settings or texts" in caplog.text
    (tmp_path / "prefix.json").write_text("{")
    with pytest.raises(InputError, match=r"prefix\.json: not JSON"):
        run(parts=("unseen",))


def test_a_missing_set_is_said_and_a_missing_clinc_is_an_error(page, settings):
    """Sets whose file is not there are left out with what to fetch; without CLINC there is none."""
    record = json.loads(page.with_suffix(".json").read_text())
    assert "hwu64.zip: no such file; fetch" in record["left_out"]["hwu64"]
    nowhere = settings.model_copy(update={"data": "nowhere"})
    with pytest.raises(InputError, match=r"clinc150\.zip: no such file; fetch"):
        study(nowhere, encode, jobs.in_process)


def test_the_encoder_itself_steers_nothing(page):
    """Its prefixes are all its whole vector, so S is 0 whatever the pool and the measure."""
    found = json.loads(page.with_suffix(".json").read_text())["clinc"]["conditions"]["raw"]
    assert all(
        value["mean"] == 0
        for name, value in found["summary"].items()
        if name.startswith("s_") and not name.startswith("s_mono")
    )


def test_own_vectors_are_cut_exactly(page):
    """What is stored once gives every prefix bit for bit."""
    conditions = json.loads(page.with_suffix(".json").read_text())["clinc"]["conditions"]
    assert conditions["own"]["exact_truncation"]
    assert not conditions["v5"]["exact_truncation"]  # layer-normalised as a whole alone


def test_every_check_has_its_verdict(page):
    """Checks are those of the parts and conditions that were run, misses included."""
    record = json.loads(page.with_suffix(".json").read_text())
    assert checks(record) == record["checks"]
    text = page.read_text()
    assert text.count("**MISSED**") == sum(not check["met"] for check in record["checks"]) > 0
    assert checks({}) == []


def test_settings_are_overridden_by_depth(settings):
    """A change of all conditions and one of a single condition both reach it; typos are errors."""
    own, v5 = settings.taught("own"), settings.taught("v5")
    assert (own.num_epochs, own.batch_size, v5.batch_size) == (1, 32, 16)
    deeper = settings.model_copy(update={"fit": {"own": {"objective": {"distil": 0.5}}}})
    assert deeper.taught("own").objective.distil == 0.5
    wrong = settings.model_copy(update={"fit": {"own": {"num_epoch": 1}}})
    with pytest.raises(ConfigError, match="did you mean 'num_epochs'"):
        wrong.taught("own")
    narrow = settings.model_copy(update={"fit": {"all": {"block_sizes": [16, 8]}}})
    assert narrow.taught("v5").block_sizes == (16, 8)
    assert len(narrow.taught("v5").objective.keep) == 2
    objectives = {"all": {"objective": {"margin": 0.1}}, "v5": {"objective": {"classes": 0.2}}}
    both = settings.model_copy(update={"fit": objectives}).taught("v5").objective
    assert (both.margin, both.classes) == (0.1, 0.2)


def test_the_command_line_names_parts_and_settings():
    """Settings may stand before or behind the parts; what there is not is named."""
    found = command_line(["seeds=[1, 2]", "--parts", "clinc", "unseen", "out=x"])
    assert (found.wanted, found.seeds, found.out) == (("clinc", "unseen"), (1, 2), "x")
    assert command_line(["--parts", "sets", "trec"]).wanted == found.other_sets
    assert command_line([]).wanted == found.all_parts
    with pytest.raises(ConfigError, match="did you mean 'noise'"):
        command_line(["nose.num_seeds=1"])
    with pytest.raises(ConfigError, match="parts: 'clink'; did you mean 'clinc'"):
        command_line(["--parts", "clink"])
    for wrong in (
        "conditions=[vv5]",
        "set_conditions=[vv5]",
        "noise.conditions=[vv5]",
        "goldilocks.first_blocks={vv5: [64]}",
        "fit.vv5.num_epochs=2",
    ):
        with pytest.raises(ConfigError, match="'vv5': no such condition; did you mean 'v5'"):
            command_line([wrong])
    for wrong in ("unseen.share=0", "noise.shares=[1.5]"):
        with pytest.raises(ConfigError, match="share"):
            command_line([wrong])
    with pytest.raises(ConfigError, match="two different seeds"):
        command_line(["seeds=[1]"])
    with pytest.raises(ConfigError, match="without clinc"):
        command_line(["sets={trec: {}}"])


def made_up(settings: StudyConfig) -> jobs.SetData:
    """Vectors of 12 fine labels in 6 coarse ones."""
    rng = np.random.default_rng(0)
    fine = np.arange(240) % 12
    vectors = (rng.normal(size=(12, 16))[fine] + rng.normal(0, 0.5, (240, 16))).astype(np.float32)
    labels = np.stack([fine // 2, fine], axis=1)
    return jobs.SetData(vectors, labels, np.arange(240) >= 180, "x")


def test_what_is_held_out_is_not_learned_from(settings, monkeypatch):
    """Unseen fine labels, test texts and true labels of noisy texts never reach the training."""
    data, seen = made_up(settings), {}
    real = jobs.fit_head

    def spy(features, labels, config, seed):
        seen["labels"], seen["x"] = labels, features.numpy()
        return real(features, labels, config, seed)

    monkeypatch.setattr(jobs, "fit_head", spy)
    job = settings.jobs("clinc", settings.taught("own"), 1, unseen=0.3)[0]
    record, _ = jobs.run(job, data)
    assert len(np.unique(seen["labels"][:, 1])) == 6  # one of two in each coarse label is out
    assert 0 < record["unseen"]["num"] < 60
    test = {row.tobytes() for row in data.features[data.test]}
    assert not test & {row.tobytes() for row in seen["x"]}

    job = settings.jobs("clinc", settings.taught("own"), 1, noise=0.5)[0]
    jobs.run(job, data)
    assert (seen["labels"][:, 0] != seen["labels"][:, 1] // 2).mean() == pytest.approx(0.5)


def test_results_are_kept_by_what_they_were_made_from(settings, tmp_path):
    """Another seed, setting or fingerprint is another result; a torn file is none."""
    data, kept = made_up(settings), Kept(tmp_path)
    job = settings.jobs("clinc", None, 1)[0]
    kept.save(job, data, ({"x": 1}, {"row": np.arange(3)}))
    record, items = kept.load(job, data)
    assert record == {"x": 1}
    np.testing.assert_array_equal(items["row"], np.arange(3))
    assert kept.load(job.model_copy(update={"seed": 7}), data) is None
    other = jobs.SetData(data.features, data.labels, data.test, "y")
    assert kept.load(job, other) is None
    next(tmp_path.rglob("*.json")).write_text("{")
    assert kept.load(job, data) is None
