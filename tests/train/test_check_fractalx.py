"""The check of interference fields passes right files of any kind and fails wrong ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.models import field_oracle as oracle
from train import check_fractalx

KINDS = (
    *("plain", "one point", "two points", "collinear", "constant", "few axes", "random"),
    *("many waves", "far"),
)


def case(kind: str, seed: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Settings and arrays of one case, as published, of the oracle's numbers."""
    random = np.random.default_rng(seed)
    n, d, K, S = {"one point": 1, "two points": 2}.get(kind, 14), 5, 3, 4
    history = random.normal(size=(n, d))
    if kind == "collinear":
        history = np.linspace(0, 1, n)[:, None] * history[:1]
    elif kind == "many waves":
        K = 8
    elif kind in ("constant", "few axes"):
        history = np.repeat(history[:1], n, 0)
        K = 8 if kind == "few axes" else K
    settings = {"n": n, "c": 6, "d": d, "kind": kind, "smax": S, "n_wave_vectors": K}
    amplitudes, candidates = random.uniform(0.1, 3, n), random.normal(size=(6, d)) / 2
    centred = history - history.mean(0)
    if kind == "random":
        settings |= {"wave_mode": "random", "random_state": 4, "dimension_weight": 0.5}
        waves = np.random.default_rng(4).standard_normal((K, d))
    elif np.abs(centred).max() < 1e-12:
        waves = np.eye(d)[:K]
    else:
        waves = np.linalg.svd(centred, full_matrices=False)[2][:K]
        more = np.random.default_rng(0).standard_normal((K - len(waves), d))
        waves = np.concatenate((waves, more))
    waves = waves / np.linalg.norm(waves, axis=1, keepdims=True)
    constant = np.abs(centred).max() < 1e-12
    dimension = 1.0 if constant else oracle.two_nn(history)
    longest = 1.0 if constant else oracle.base_scale(history)
    scales = longest * 0.5 ** np.arange(S)
    if kind == "far":  # where float32 has but the last of its digits
        candidates[:, 0] = history[:, 0].max() + 14 * longest
    weights = oracle.scale_weights(dimension / d, S, settings.get("dimension_weight", 1.0))
    by_scale = oracle.by_scale(history, amplitudes, candidates, waves, scales)
    boxes = np.array([oracle.num_boxes(history, 0.5**power) for power in range(1, 9)])
    arrays = {
        "history": history,
        "amplitudes": amplitudes,
        "candidates": candidates,
        "by_scale": by_scale,
        "total": oracle.total(by_scale, weights, dimension / d),
        "intrinsic_dimension": np.array(dimension),
        "dimension_ratio": np.array(dimension / d),
        "wave_vectors": waves,
        "lambda0": np.array(longest),
        "scale_weights": weights,
        "destructive_multiplier": np.array(1 + 0.75 * (1 - dimension / d)),
        "box_dimension": np.array(oracle.box_slope(boxes)),
        "box_counts": boxes,
    }
    return settings, arrays


def write(file: Path, cases: list[tuple[dict, dict[str, np.ndarray]]]) -> Path:
    """Save cases as one file laid out like the reference."""
    arrays = {f"case{i}/{key}": a for i, (_, c) in enumerate(cases) for key, a in c.items()}
    np.savez(file, meta=np.array(json.dumps([settings for settings, _ in cases])), **arrays)
    return file


def run(monkeypatch, capsys, file: Path) -> tuple[int, dict, str]:
    """Exit status of the command, the JSON it prints, and its complaint."""
    monkeypatch.setattr(sys, "argv", ["train.check_fractalx", str(file)])
    status = check_fractalx.main()
    out, err = capsys.readouterr()
    return status, json.loads(out)["files"][0], err


def test_every_kind_passes(tmp_path, monkeypatch, capsys):
    """Histories of every kind pass in float64 and float32, all of their quantities compared."""
    cases = [case(kind, seed) for seed, kind in enumerate(KINDS)]

    status, result, _ = run(monkeypatch, capsys, write(tmp_path / "file.npz", cases))

    assert status == 0, json.dumps(result, indent=2)
    compared = set(result["cases"]["case0"]["float64"])
    assert set(cases[0][1]) - {"history", "amplitudes", "candidates"} <= compared
    assert max(result["max_errors"]["float32"].values()) < 1e-4


@pytest.mark.parametrize(
    "key",
    [
        "by_scale",
        "total",
        "intrinsic_dimension",
        "dimension_ratio",
        "wave_vectors",
        "lambda0",
        "scale_weights",
        "destructive_multiplier",
        "box_dimension",
    ],
)
def test_a_wrong_number_fails(key, tmp_path, monkeypatch, capsys):
    """One number that is off by more than 1e-9 fails its case, with status 1."""
    cases = [case("plain", 0), case("random", 1)]
    numbers = cases[1][1][key].reshape(-1)
    numbers[numbers.argmax()] += 1e-8 if key != "by_scale" else np.nan

    status, result, _ = run(monkeypatch, capsys, write(tmp_path / "file.npz", cases))

    assert status == 1
    assert [c["passed"] for c in result["cases"].values()] == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a: a.pop("lambda0"), "key case0/lambda0 is missing"),
        (lambda s, a: a.update(total=a["total"][:-1]), "case0/total: shape"),
        (lambda s, a: a.update(history=a["history"][0]), "case0/history: expected numbers of 2"),
        (lambda s, a: s.update(smaxx=3), "did you mean 'smax'"),
        (lambda s, a: s.update(lambda0=-1.0), "meta of case0"),
        (lambda s, a: a["history"].fill(np.nan), "must be finite"),
    ],
)
def test_another_layout_is_refused(change, message, tmp_path, monkeypatch, capsys):
    """A file of another layout ends with status 2 and names what is wrong."""
    settings, arrays = case("plain", 0)
    change(settings, arrays)

    status, result, err = run(monkeypatch, capsys, write(tmp_path / "f.npz", [(settings, arrays)]))

    assert status == 2
    assert message in err
    assert not result["passed"]


def test_not_a_file_of_arrays_is_refused(tmp_path, monkeypatch, capsys):
    """A file that is no .npz, one without meta, and one that is not there end with status 2."""
    (tmp_path / "text.npz").write_text("waves")
    np.savez(tmp_path / "empty.npz", history=np.ones(3))

    for name in ("text.npz", "empty.npz", "absent.npz"):
        assert run(monkeypatch, capsys, tmp_path / name)[0] == 2
