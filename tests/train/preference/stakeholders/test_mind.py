"""MIND's reader on a few made-up impressions and articles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.reader import InputError
from tests.train.preference.shared_data import SHARED, needs_shared
from train.preference.stakeholders import mind

ARTICLES = {"N1": ("news", "newsus"), "N2": ("sports", "soccer"), "N3": ("autos", "autosnews")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six impressions of three articles, the first of which is always clicked."""
    inside = tmp_path / "MINDsmall_train"
    inside.mkdir()
    shown = "\t".join(["{}", "U1", "11/12/2019 2:14:46 PM", "N9", "N1-1 N2-0 N3-0 N4-0"])
    (inside / "behaviors.tsv").write_text("\n".join(shown.format(at) for at in range(6)))
    entity = '[{"Label": "x"}]'
    rows = [
        "\t".join([name, *of, f'A "title {name}', "Some words", "url", entity, "[]"])
        for name, of in ARTICLES.items()
    ]
    (inside / "news.tsv").write_text("\n".join(rows))
    return tmp_path


def test_readers_want_what_is_clicked(folder):
    """The clicked article's category has the highest weight; quality follows the groups."""
    space = mind.read(folder)
    reader = space.weights[space.of_stakeholder("reader")]
    names = space.feature_names
    assert reader[names.index("news")] == 1.0
    assert reader[names.index("sports")] == pytest.approx((0 + 1) / (6 + 1))
    assert reader[-4:].tolist() == [0.2, 0.2, 0.3, 0.0]
    assert len(space.features) == 3  # N4 has no text


def test_the_named_stakeholders(folder):
    """Advertisers want cars and not news; journalists want news of the country."""
    space = mind.read(folder)
    names = space.feature_names
    advertiser, journalist = (
        space.weights[space.of_stakeholder(n)] for n in ("advertiser", "journalist")
    )
    assert (advertiser[names.index("autos")], advertiser[names.index("news")]) == (1.0, -1.0)
    assert journalist[names.index("newsus")] == 1.0


@pytest.mark.parametrize(
    "content", ["", "N1\tnews\n", "N1\tnews\tnewsus\tA title\tWords\turl\tno json\t[]\n"]
)
def test_news_that_cannot_be_read_are_told(folder, content):
    """No rows, too few columns and broken entities are errors that say what to fetch."""
    (folder / "MINDsmall_train" / "news.tsv").write_text(content)
    with pytest.raises(InputError, match=r"MIND news: cannot be read .*; fetch"):
        mind.read(folder)


@needs_shared
def test_the_real_sample_is_read(tmp_path):
    """Of MIND's own files, as an archive, articles of five impressions make a pool of numbers."""
    (tmp_path / mind.ARCHIVE).symlink_to(SHARED.resolve() / "mind_small_sample.zip")
    space = mind.read(tmp_path)
    assert space.story == {"articles": 113, "impressions": 5_055}
    assert space.stakeholders[0] == "reader"
    assert (space.features[:, :14].sum(axis=1) == 1).all()  # each is of one category
    assert ((space.features >= 0) & (space.features <= 1)).all()
    assert np.isfinite(space.weights).all()
    assert space.weights[space.of_stakeholder("journalist")].max() == 1.0
