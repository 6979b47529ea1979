"""Sets of labelled texts: read as published, divided without a leak, and changed as asked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError
from pipelines.data.reader import InputError, MissingInputError
from train.prefix import labelled, readers
from train.prefix.labelled import LabelledTexts, Sizes
from train.prefix.readers.clinc import SUPER_DOMAINS

SHARED = Path(__file__).parents[4] / "shared" / "data" / "v5"
LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=8, max_size=40).map(
    lambda pairs: np.array([(a, 4 * a + b) for a, b in pairs])
)
# Set -> texts, of them for testing, coarse and fine labels, H(L1|L0) in bits.
PUBLISHED = {
    "arxiv": (34_500, None, 11, 138, 4.19),
    "clinc": (19_500, 4_500, 10, 150, 3.91),
    "goemotions": (40_898, 4_590, 4, 28, 1.90),
    "hwu64": (11_036, None, 18, 64, 2.06),
    "newsgroups": (18_812, 7_516, 7, 20, 1.79),
    "trec": (5_952, 500, 6, 50, 2.23),
}


def made_up(num: int = 60, test: bool = True) -> LabelledTexts:
    """A set with a copy of every tenth text."""
    text = [f"text {at - at % 10 if at % 10 == 1 else at}" for at in range(num)]
    levels = ([f"c{at % 3}" for at in range(num)], [f"f{at % 6}" for at in range(num)])
    return LabelledTexts.of("x", text, levels, np.arange(num) >= num // 2 if test else None)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/v5")
@pytest.mark.parametrize("name", ["clinc", "trec", "hwu64"])
def test_sets_are_read_as_published(name):
    """Texts, labels and entropy of the small sets; each fine label is in one coarse one."""
    texts = readers.read(name, SHARED)
    num, num_test, coarse, fine, bits = PUBLISHED[name]
    assert len(texts.text) == num
    assert (None if texts.test is None else texts.test.sum()) == num_test
    assert [len(names) for names in texts.names] == [coarse, fine]
    found = labelled.conditional_entropy(texts.labels[:, 0], texts.labels[:, 1])
    assert found == pytest.approx(bits, abs=0.01)
    assert len(np.unique(texts.labels, axis=0)) == fine


def test_clinc_from_a_folder_or_an_archive(tmp_path):
    """The same texts come from the download packed or unpacked, and names lose their blanks."""
    full = {"train": [["hello", "greeting"], ["pay", "pay_bill"]], "test": [["hi", "greeting"]]}
    domains = {"small talk": ["greeting"], "banking": ["pay bill"]}
    (tmp_path / "clinc150").mkdir()
    with zipfile.ZipFile(tmp_path / "clinc150.zip", "w") as archive:
        for name, content in (("data_full.json", full), ("domains.json", domains)):
            (tmp_path / "clinc150" / name).write_text(json.dumps(content))
            archive.writestr(f"clinc150/{name}", json.dumps(content))
    unpacked = readers.read("clinc", tmp_path)
    for file in (tmp_path / "clinc150").iterdir():
        file.unlink()
    (tmp_path / "clinc150").rmdir()
    packed = readers.read("clinc", tmp_path)
    assert unpacked.text == packed.text == ["hello", "pay", "hi"]
    assert packed.names == (("banking", "small_talk"), ("greeting", "pay_bill"))
    np.testing.assert_array_equal(packed.labels, [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(packed.test, [False, False, True])


@pytest.mark.parametrize("name", readers.names())
def test_a_missing_file_says_what_to_fetch(name, tmp_path):
    """The error names the file that is not there and where it comes from."""
    with pytest.raises(MissingInputError, match=rf"{tmp_path}.*no such file; fetch .*put it there"):
        readers.read(name, tmp_path)


def test_a_wrong_name_or_archive_is_named(tmp_path):
    """Of a set that is not known the near miss is told, of a bad archive the file."""
    with pytest.raises(ConfigError, match="did you mean 'trec'"):
        readers.read("trek", tmp_path)
    (tmp_path / "trec.zip").write_bytes(b"not an archive")
    with pytest.raises(InputError, match=r"trec\.zip: not a readable"):
        readers.read("trec", tmp_path)


@given(st.integers(0, 1_000), st.booleans())
def test_no_test_text_is_trained_on(seed, public):
    """A split has no text twice, copies included; a public test split is never trained on."""
    sizes = Sizes(num_train=20, num_test=15, most_train=25)
    texts = labelled.shortened(made_up(test=public), sizes)
    split = labelled.draw(texts.test, len(texts.text), sizes, seed)
    train, test = ([texts.text[row] for row in rows] for rows in (split.train, split.test))
    assert len(set(train) | set(test)) == len(train) + len(test)
    assert (len(train), len(test)) == (20, 15)
    if texts.test is not None:
        assert texts.test[split.test].all()
        assert not texts.test[split.train].any()


def test_seeds_draw_other_splits_of_the_same_texts():
    """What may be used at all does not depend on the seed, what is used does."""
    sizes = Sizes(num_train=20, num_test=15, most_train=25)
    texts = labelled.shortened(made_up(), sizes)
    assert texts.text == labelled.shortened(made_up(), sizes).text
    one, same, other = (labelled.draw(texts.test, len(texts.text), sizes, s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.train, same.train)
    assert set(one.train) != set(other.train)
    assert set(one.test) == set(other.test)


def test_entropies_by_hand():
    """Four even labels are two bits; a coarse label that halves them leaves one."""
    fine = np.array([0, 1, 2, 3])
    assert labelled.entropy(fine) == pytest.approx(2)
    assert labelled.conditional_entropy(fine // 2, fine) == pytest.approx(1)
    assert labelled.conditional_entropy(fine, fine) == pytest.approx(0)


@given(LABELS, st.integers(0, 100))
def test_some_of_each_coarse_label_stay(labels, seed):
    """Every coarse label keeps a fine one; those with several lose at least one."""
    out = labelled.held_out_fine(labels, 0.3, seed)
    kept = labels[~np.isin(labels[:, 1], out)]
    assert set(kept[:, 0]) == set(labels[:, 0])
    for coarse in set(labels[:, 0]):
        fine = set(labels[labels[:, 0] == coarse, 1])
        assert bool(fine & set(out)) == (len(fine) > 1)


@given(st.floats(0, 0.9), st.integers(0, 100))
def test_noise_is_as_much_as_asked(share, seed):
    """So many labels are others, and all are labels."""
    labels = np.arange(200) % 5
    found = labelled.noisy(labels, share, seed)
    assert (found != labels).sum() == round(share * 200)
    assert set(found) <= set(range(5))


@given(st.integers(2, 75), st.integers(0, 100))
def test_random_groups_are_of_one_size(num_groups, seed):
    """All groups are used, and none has two members more than another."""
    sizes = np.bincount(labelled.random_groups(150, num_groups, seed), minlength=num_groups)
    assert sizes.max() - sizes.min() <= 1
    assert sizes.sum() == 150


def test_super_domains_hold_every_domain_once():
    """The five groups are a partition of the ten domains."""
    names = [name for group in SUPER_DOMAINS.values() for name in group]
    assert len(set(names)) == len(names) == 10
    of = labelled.grouped(names, SUPER_DOMAINS)
    np.testing.assert_array_equal(of, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
