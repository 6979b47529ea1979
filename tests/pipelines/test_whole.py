"""What is written is there whole, or is as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.whole import new_file, new_folder, save_array, save_json


def stop(_: object) -> None:
    """What befalls a job in the middle of its work."""
    raise OSError("disk full")


def test_files_are_replaced(tmp_path):
    """Written twice, the second is there, and nothing else."""
    for values in (np.arange(3), np.arange(5)):
        save_array(tmp_path / "a.npy", values)
        save_json(tmp_path / "a.json", values.tolist())

    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.arange(5))
    assert json.loads((tmp_path / "a.json").read_text()) == list(range(5))
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "a.json"}


def test_an_error_changes_no_file(tmp_path):
    """Half a file is never seen, and leaves nothing behind."""
    save_array(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(OSError, match="full"), new_file(tmp_path / "a.npy") as file:
        stop(file.write(b"half"))

    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.arange(3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_folders_are_replaced_whole(tmp_path):
    """The new one takes the old one's place with nothing of it; an error leaves the old one."""
    folder = tmp_path / "deep" / "down"
    for name in ("old", "new"):
        with new_folder(folder) as made:
            (made / name).write_text("")
    with pytest.raises(OSError, match="full"), new_folder(folder) as made:
        stop((made / "half").write_text(""))

    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(folder.parent.iterdir()) == [folder]


def test_what_a_killed_process_left_is_put_right(tmp_path):
    """Half a folder is cleared by the next that is made, and one moved aside comes back."""
    folder = tmp_path / "run"
    for name in ("run.partial", "run.replaced"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    with pytest.raises(OSError, match="full"), new_folder(folder) as made:
        stop(list(made.iterdir()) or (made / "half").write_text(""))

    assert [path.name for path in folder.iterdir()] == ["run.replaced"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_link_is_replaced_by_a_folder(tmp_path):
    """What a link in the folder's place leads to is left alone, however often it is made."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old").write_text("")
    folder = tmp_path / "run"
    folder.symlink_to(tmp_path / "disk")
    for name in ("one", "two"):
        with new_folder(folder) as made:
            (made / name).write_text("")

    assert [path.name for path in folder.iterdir()] == ["two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "run"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["old"]
