"""The field equals the plain sum, whatever the history, and behaves as interference does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.models import field_oracle as oracle
from train.models.fractal.config import PUBLISHED, FieldConfig
from train.models.fractal.field import fit, hybrid

REFERENCE = Path(__file__).parents[3].parent / "shared/reference/fractalx_demo.npz"
GATES = {torch.float64: 1e-10, torch.float32: 1e-5}
few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 10_000)


def unit(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Unit rows [n, d] in directions at random."""
    rows = random.normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def histories(d: int = 6) -> dict[str, np.ndarray]:
    """Histories of every degenerate kind, and plain ones."""
    random = np.random.default_rng(5)
    line = np.linspace(-1, 1, 12)[:, None] * unit(random, 1, d)
    return {
        "one point": unit(random, 1, d),
        "two points": unit(random, 2, d),
        "collinear": line + 0.3,
        "constant": np.repeat(unit(random, 1, d), 9, 0),
        "doubled": np.repeat(unit(random, 5, d), 2, 0),
        "far away": unit(random, 20, d) + 40,
        "plain": unit(random, 30, d),
    }


def batch(rows: list[np.ndarray], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of any length as one padded batch, padding not a number."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.full((len(rows), int(lengths.max()), *rows[0].shape[1:]), torch.nan, dtype=dtype)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = torch.from_numpy(row).to(dtype)
    return padded, lengths


@pytest.mark.parametrize("dtype", GATES)
@pytest.mark.parametrize("waves", ["pca", "random"])
@pytest.mark.parametrize("envelope", [True, False])
def test_the_field_is_the_plain_sum(dtype, waves, envelope):
    """Padded histories of every kind, together in one batch, score as the complex sum does.

    Of 3 scales float32 computes distances in float32, of 5 it must not.
    """
    S = 5 if waves == "pca" else 3
    config = FieldConfig(waves=waves, guarded=False, envelope=envelope, num_scales=S)
    random = np.random.default_rng(1)
    rows = list(histories().values())
    if (dtype, waves, envelope) == (torch.float64, "pca", True):
        rows.append(unit(random, 530, 6))  # more points than the published dimension takes
    amplitudes = [random.uniform(0.1, 3, len(row)) for row in rows]
    candidates = [np.concatenate((unit(random, 9, 6) + row.mean(0), row[:2])) for row in rows]
    candidates = [row[:10] for row in candidates]

    history, lengths = batch(rows, dtype)
    field = fit(history, batch(amplitudes, dtype)[0], lengths, config=config)
    scores = field.score(batch(candidates, dtype)[0])

    for at, row in enumerate(rows):
        given_waves = field.waves[at, field.shares[at] > 0].numpy()
        # The same numbers that were read: rounded, where they are float32.
        given = [a.astype(str(dtype)[6:]).astype(float) for a in (row, amplitudes[at])]
        q = candidates[at].astype(str(dtype)[6:]).astype(float)
        expected = oracle.by_scale(*given, q, given_waves, field.scales[at].numpy(), envelope)
        ratio = float(field.dimension.ratio[at])
        total = oracle.total(expected, oracle.scale_weights(ratio, S), ratio)
        np.testing.assert_allclose(scores.by_scale[at], expected, atol=GATES[dtype], rtol=0)
        np.testing.assert_allclose(scores.total[at], total, atol=GATES[dtype], rtol=0)
        assert float(field.scales[at, 0]) == pytest.approx(oracle.base_scale(given[0]), rel=1e-9)


@pytest.mark.parametrize("dtype", GATES)
def test_wavelengths_of_any_ratio(dtype):
    """Wavelengths that are not halves of each other, some of them tiny, score as the plain sum."""
    random = np.random.default_rng(4)
    config = FieldConfig(quantiles=(0.9, 0.5, 0.05, 0.0))
    history = torch.from_numpy(unit(random, 24, 3) * random.uniform(0.01, 9, (24, 1))).to(dtype)
    near = history + 0.01 * torch.from_numpy(unit(random, 24, 3)).to(dtype)
    field = fit(history[None], config=config)

    found = field.score(near[None]).by_scale[0]

    plain = history.double().numpy(), np.ones(24), near.double().numpy()
    expected = oracle.by_scale(*plain, field.waves[0].numpy(), field.scales[0].numpy())
    np.testing.assert_allclose(found, expected, atol=GATES[dtype], rtol=0)


def test_the_published_numbers():
    """Small cases that the original code was run on come out as it printed them."""

    def rows(*values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor([values], dtype=torch.float64)

    history = rows((1, 0), (0.9, 0.1), (-1, 0), (-0.9, -0.1))
    candidates = rows((1, 0.05), (0, 1), (-1, -0.05))
    pca = fit(history, config=PUBLISHED.model_copy(update={"num_waves": 2, "num_scales": 3}))
    random = FieldConfig(num_waves=6, num_scales=3, base_scale=1, seed=3, guarded=False)
    scores = pca.score(candidates)
    axes, at = torch.eye(2), rows((0.01, 0.01), (0.25, 0.25), (0.18, 0.18))
    # The package's scorer: no envelope, amplitudes as they are, the first wavelength halved.
    package = FieldConfig(base_scale=0.5, envelope=False, normalised=False, guarded=False)
    one = package.model_copy(update={"num_scales": 1})
    history_1, history_4 = rows((0, 0), (0, 0.02), (0.02, 0)), rows((0, 0), (0, 0.04), (0.04, 0))
    first = fit(history_1, torch.tensor([[3.0, 2, 2]]), config=one, waves=axes).score(at)
    four = fit(history_4, config=package, waves=axes).score(at)

    close = {"atol": 1e-6, "rtol": 0}
    assert float(pca.scales[0, 0]) == pytest.approx(3.713707, abs=1e-6)
    np.testing.assert_allclose(scores.by_scale[0, 0], [0.999696, 1.530108, 1.006718], **close)
    np.testing.assert_allclose(scores.by_scale[0, 1], [-0.145369, -1.461490, 0.573197], **close)
    np.testing.assert_allclose(scores.total[0], [1.157155, -0.686059, 1.157155], **close)
    second = fit(history, config=random)
    np.testing.assert_allclose(
        second.score(candidates).total[0, :2], [0.735631, -0.071076], **close
    )
    assert float(second.dimension.value[0]) == pytest.approx(0.308919, abs=1e-6)
    np.testing.assert_allclose(first.by_scale[0, :2, 0], [13.889606, -13.874333], **close)
    expected = [
        [5.828012, 5.332270, 3.630808, 0.159078],
        [-2.924458, -2.609078, -2.261169, 3.041456],
    ]
    np.testing.assert_allclose(four.by_scale[0, [0, 2]], expected, **close)


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs ../shared/reference")
def test_the_reference_passes():
    """Every case of the published file is met by float64 to 1e-10 and float32 to 1e-5."""
    from train.check_fractalx import check_file

    result = check_file(REFERENCE)

    assert result["passed"]
    assert max(result["max_errors"]["float64"].values()) < 1e-10
    assert max(result["max_errors"]["float32"].values()) < 1e-5


@few
@given(seeds, st.sampled_from(["pca", "random"]), st.booleans())
def test_a_viewer_alone_scores_as_in_a_batch(seed, waves, guarded):
    """Who else is in the batch, and how much padding, changes no score."""
    random = np.random.default_rng(seed)
    config = FieldConfig(waves=waves, guarded=guarded)
    rows = [unit(random, int(n), 5) for n in random.integers(6, 20, 3)]
    candidates = torch.from_numpy(np.stack([unit(random, 7, 5) for _ in rows]))

    together = fit(*_padded(rows), config=config).score(candidates)

    for at, row in enumerate(rows):
        alone = fit(torch.from_numpy(row)[None], config=config).score(candidates[at : at + 1])
        torch.testing.assert_close(together.by_scale[at], alone.by_scale[0], atol=1e-11, rtol=0)
        torch.testing.assert_close(together.total[at], alone.total[0], atol=1e-11, rtol=0)


@few
@given(seeds)
def test_candidates_are_judged_alone(seed):
    """Candidates in another order score the same in that order."""
    random = np.random.default_rng(seed)
    field = fit(torch.from_numpy(unit(random, 15, 4))[None])
    candidates = torch.from_numpy(unit(random, 9, 4))[None]
    order = random.permutation(9)

    there, then = field.score(candidates).total[:, order], field.score(candidates[:, order]).total

    torch.testing.assert_close(then, there, atol=1e-13, rtol=0)


@few
@given(seeds, st.floats(0.0, 5.0), st.floats(0.1, 5.0))
def test_the_field_is_linear_in_amplitudes(seed, a, b):
    """Amplitudes' sum makes the sum of fields, and normalised ones do not care for their size."""
    random = np.random.default_rng(seed)
    history = torch.from_numpy(unit(random, 8, 4))[None]
    candidates = torch.from_numpy(unit(random, 5, 4))[None]
    one, two = (torch.from_numpy(random.uniform(0.1, 2, (1, 8))) for _ in range(2))
    raw = FieldConfig(normalised=False)

    def by_scale(amplitudes: torch.Tensor, config: FieldConfig = raw) -> torch.Tensor:
        return fit(history, amplitudes, config=config).score(candidates).by_scale

    expected = a * by_scale(one) + b * by_scale(two)
    torch.testing.assert_close(by_scale(a * one + b * two), expected, atol=1e-11, rtol=0)
    torch.testing.assert_close(
        by_scale(b * one, FieldConfig()), by_scale(one, FieldConfig()), atol=1e-12, rtol=0
    )


@few
@given(seeds, st.sampled_from(["pca", "random"]))
def test_moving_everything_changes_nothing(seed, waves):
    """Only differences of positions count."""
    random = np.random.default_rng(seed)
    history = torch.from_numpy(unit(random, 12, 4))[None]
    candidates = torch.from_numpy(unit(random, 6, 4))[None]
    shift = torch.from_numpy(random.normal(size=4))
    config = FieldConfig(waves=waves, guarded=False)

    there = fit(history, config=config).score(candidates).total
    moved = fit(history + shift, config=config).score(candidates + shift).total

    torch.testing.assert_close(moved, there, atol=1e-9, rtol=0)


@few
@given(seeds)
def test_turning_everything_turns_principal_waves_along(seed):
    """A rotation changes no score with principal or turned waves, and does with fixed ones."""
    random = np.random.default_rng(seed)
    spread = torch.tensor([4.0, 3, 2, 1])  # so that principal directions are told apart
    history = torch.from_numpy(random.normal(size=(12, 4))) * spread
    candidates = history[:5] + 0.1 * torch.from_numpy(random.normal(size=(5, 4)))
    turn = torch.from_numpy(np.linalg.qr(random.normal(size=(4, 4)))[0])
    waves = torch.from_numpy(random.normal(size=(6, 4)))

    def score(by: torch.Tensor, **how: torch.Tensor) -> torch.Tensor:
        config = FieldConfig(waves="random" if how else "pca", num_waves=4, guarded=False)
        return fit((history @ by)[None], config=config, **how).score((candidates @ by)[None]).total

    still = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(score(turn), score(still), atol=1e-8, rtol=0)
    there = score(still, waves=waves)
    torch.testing.assert_close(score(turn, waves=waves @ turn), there, atol=1e-9, rtol=0)
    assert not torch.allclose(score(turn, waves=waves), there, atol=1e-3)


@few
@given(seeds, st.floats(0.01, 1.0))
def test_waves_add_up_near_the_history(seed, closeness):
    """At its only post a field is 2, nowhere more, and no part near it is destructive."""
    random = np.random.default_rng(seed)
    point = torch.from_numpy(random.normal(size=(1, 1, 5)))
    field = fit(point, config=FieldConfig(base_scale=1.0))
    shortest = float(field.scales[0, -1])
    near = point + 0.24 * closeness * shortest * torch.from_numpy(unit(random, 20, 5))
    far = torch.from_numpy(random.normal(size=(1, 50, 5)))

    adds, takes = field.parts(near)

    torch.testing.assert_close(field.score(point).by_scale, torch.full((1, 1, 4), 2.0).double())
    assert (field.score(far).by_scale.abs() <= 2 + 1e-12).all()
    assert (adds > 0).all()
    assert (takes == 0).all()


@few
@given(seeds, st.booleans(), st.booleans())
def test_parts_sum_to_the_field(seed, envelope, phase):
    """What adds and what takes, of either sign, are all of the field."""
    random = np.random.default_rng(seed)
    config = FieldConfig(envelope=envelope, phase=phase)
    field = fit(torch.from_numpy(unit(random, 11, 4))[None], config=config)
    candidates = torch.from_numpy(unit(random, 6, 4))[None]

    adds, takes = field.parts(candidates)

    assert (adds >= 0).all()
    assert (takes <= 0).all()
    torch.testing.assert_close(adds + takes, field.score(candidates).by_scale, atol=1e-12, rtol=0)


def test_zero_vectors_neither_send_nor_receive():
    """Guarded, zero vectors in a history change nothing, and as candidates receive 0."""
    random = np.random.default_rng(3)
    row = unit(random, 9, 4)
    zeros = np.insert(row, [0, 4, 9], 0.0, axis=0)
    candidates = torch.from_numpy(np.insert(unit(random, 4, 4), 2, 0.0, axis=0))[None]

    plain = fit(torch.from_numpy(row)[None]).score(candidates)
    beside = fit(torch.from_numpy(zeros)[None]).score(candidates)
    published = fit(torch.from_numpy(zeros)[None], config=PUBLISHED).score(candidates)
    adds, takes = fit(torch.from_numpy(row)[None]).parts(candidates)

    torch.testing.assert_close(beside.total, plain.total, atol=1e-12, rtol=0)
    assert plain.silent.tolist() == [[False, False, True, False, False]]
    assert all((part[0, 2] == 0).all() for part in (plain.by_scale, adds, takes))
    assert published.total[0, 2] > plain.total.max()  # the published fault


def test_no_history_is_no_field():
    """A viewer without posts, or without any real one in a batch, has a field of 0."""
    candidates = torch.ones(2, 3, 4)
    none = fit(torch.empty(2, 0, 4)).score(candidates)
    padding = fit(torch.full((2, 5, 4), torch.nan), lengths=torch.tensor([0, 0])).score(candidates)

    assert (none.total == 0).all()
    assert (padding.total == 0).all()


def test_destructive_gain_changes_no_order():
    """η grows what is negative, which keeps the order, but not that of a hybrid."""
    random = np.random.default_rng(0)
    history = torch.from_numpy(unit(random, 4, 3))[None]
    candidates = torch.from_numpy(unit(random, 80, 3))[None]
    relevance = torch.from_numpy(random.normal(size=(1, 80)))
    totals = [
        fit(history, config=FieldConfig(destructive_gain=eta)).score(candidates).total
        for eta in (0.0, 0.75, 5.0)
    ]

    orders = [total.argsort().tolist() for total in totals]
    hybrids = [hybrid(relevance, total, 1.0).argsort().tolist() for total in totals]

    assert (totals[0] < 0).any()
    assert orders[0] == orders[1] == orders[2]
    assert hybrids[0] != hybrids[2]


def test_ablations_change_what_they_name():
    """Each switch makes another field, and disliked posts have a column of their own."""
    random = np.random.default_rng(2)
    history = torch.from_numpy(unit(random, 20, 4))[None]
    candidates = torch.from_numpy(unit(random, 6, 4))[None]
    amplitudes = torch.ones(1, 20, dtype=torch.float64)
    amplitudes[0, 12:] = -2

    def made(amplitudes: torch.Tensor | None = None, **switches: object):
        return fit(history, amplitudes, config=FieldConfig(**switches)).score(candidates)

    base = made().total
    switches = [
        {"envelope": False},
        {"phase": False},
        {"half_life": 3.0},
        {"waves": "pca"},
        {"num_waves": 16},
        {"base_scale": 1.0},
        {"dimension_weight": 0.0},
        {"scale_weights": (0.0, 0.0, 0.0, 1.0)},
        {"quantiles": (0.5, 0.25, 0.1, 0.01)},
    ]
    assert all(not torch.allclose(made(**switch).total, base) for switch in switches)
    signed = made(amplitudes, signed=True)
    liked, disliked = (
        fit(history[:, part], config=FieldConfig(base_scale=1.0)).score(candidates).by_scale
        for part in (slice(12), slice(12, None))
    )
    apart = made(amplitudes, signed=True, base_scale=1.0)
    assert signed.disliked is not None
    torch.testing.assert_close(apart.by_scale, liked, atol=1e-12, rtol=0)
    torch.testing.assert_close(apart.disliked, disliked, atol=1e-12, rtol=0)


H, ONES = torch.ones(2, 3, 4), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"history": H[0]}, r"history: expected \[B, n, d\]"),
        ({"history": H.long()}, "float32 or float64"),
        ({"history": H.clone().fill_(torch.nan)}, "viewer 0 has others"),
        ({"history": H, "amplitudes": ONES[:, :2]}, r"amplitudes: expected \[B, n\] = \(2, 3\)"),
        ({"history": H, "amplitudes": -ONES}, "non-negative"),
        ({"history": H, "amplitudes": ONES * torch.tensor([[1.0], [0]])}, "all of viewer 1"),
        ({"history": H, "amplitudes": ONES / 0}, "amplitudes: all values must be finite"),
        ({"history": H, "lengths": torch.tensor([4, 1])}, r"expected 0 to 3, got \[4, 1\]"),
        ({"history": H, "lengths": torch.tensor([1.0, 1])}, "2 whole numbers"),
        ({"history": H, "waves": torch.ones(2, 5)}, r"waves: expected \[K, 4\]"),
        ({"history": H, "waves": torch.zeros(2, 4)}, "every row must be finite and not zero"),
        ({"history": H, "seeds": [1, 2, 3]}, "one for each of 2 viewers"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    """What cannot be a history is refused by name."""
    with pytest.raises(ValueError, match=message):
        fit(**arguments)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (torch.ones(2, 5, 3), r"candidates: expected \[2, C, 4\]"),
        (torch.ones(5, 4), r"candidates: expected \[2, C, 4\]"),
        (torch.ones(2, 5, 4).double(), "expected torch.float32"),
        (torch.full((2, 5, 4), torch.inf), "must be finite"),
    ],
)
def test_bad_candidates_are_refused(candidates, message):
    """Candidates that do not fit the histories are refused by name."""
    with pytest.raises(ValueError, match=message):
        fit(H).score(candidates)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base_scale": -1.0}, "greater than or equal to 0.000001"),
        ({"base_scale": np.inf}, "finite number"),
        ({"dimension_weight": np.inf}, "finite number"),
        ({"destructive_gain": np.inf}, "finite number"),
        ({"num_scales": 33}, "less than or equal to 32"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"num_scales": 0}, "greater than 0"),
        ({"num_waves": 0}, "greater than 0"),
        ({"waves": "pac"}, "'random' or 'pca'"),
        ({"scale_weights": (1.0, 2.0)}, "2 scale_weights for 4 scales"),
        ({"scale_weights": (0.0,) * 4}, "positive finite sum"),
        ({"scale_weights": (1.0, -1.0, 1.0, 1.0)}, "greater than or equal to 0"),
        ({"quantiles": (0.1, 0.2, 0.3, 0.4)}, "quantiles must fall"),
        ({"half_life": 0.0}, "greater than 0"),
    ],
)
def test_bad_settings_are_refused(values, message):
    """Settings out of range are refused."""
    with pytest.raises(ValueError, match=message):
        FieldConfig(**values)


def test_hybrid_adds_alpha_times_the_field():
    """Relevance and field meet as R + α S, and only where that means something."""
    relevance, field = torch.tensor([0.3, 0.3]), torch.tensor([2.0, -1.0])

    torch.testing.assert_close(hybrid(relevance, field, 0.25), torch.tensor([0.8, 0.05]))
    with pytest.raises(ValueError, match="alpha"):
        hybrid(relevance, field, -0.1)
    with pytest.raises(ValueError, match="shape"):
        hybrid(relevance, field[:1], 0.1)
    with pytest.raises(ValueError, match="finite"):
        hybrid(relevance, field / 0, 0.1)


def _padded(rows: list[np.ndarray]) -> tuple[torch.Tensor, None, torch.Tensor]:
    history, lengths = batch(rows, torch.float64)
    return history, None, lengths
