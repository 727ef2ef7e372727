"""FERPlus labels: the majority rule, the match by row, and votes that do not fit."""

import numpy as np
import pytest
from made_data import PIXELS, USAGE, config, csv_lines, same, write

from gmelib.config import EXPRESSIONS, InputError
from gmelib.data import load_faces
from gmelib.data.votes import EMOTIONS, OTHER, majority


def write_votes(root, votes, usage=USAGE):
    lines = ["Usage,Image name," + ",".join([*EMOTIONS, *OTHER])]
    lines += [f"{u},fer{7 * i:07d}.png," + ",".join(map(str, v)) for i, (u, v) in
              enumerate(zip(usage, votes, strict=True))]  # fmt: skip
    (root / "fer2013" / "fer2013new.csv").write_text("\n".join(lines) + "\n")


def test_majority_against_a_slow_reference():
    votes = np.random.default_rng(2).multinomial(10, np.ones(10) / 10, size=500)
    winner, reasons = majority(votes)
    seen = set()
    for row, chosen, reason in zip(votes.tolist(), winner, reasons, strict=True):
        best = [column for column, count in enumerate(row) if count == max(row)]
        if len(best) > 1:
            expected = "tie"
        else:
            expected = {8: "unknown", 9: "not_a_face"}.get(best[0], "")
            assert chosen == best[0]
        assert reason == expected
        seen.add(expected)
    assert seen == {"", "tie", "unknown", "not_a_face"}


def votes_for_all_classes():
    """28 rows: two train faces of each class but contempt's one; then a tie, unknown and NF."""
    votes = np.eye(10, dtype=int)[[*range(8), *range(6), *range(7), *range(4), 0, 8, 9]] * 10
    votes[25, :2] = 5
    return votes


def test_ferplus_labels_rows_and_drops_what_has_no_majority(tmp_path):
    write(tmp_path, csv_lines())
    write_votes(tmp_path, votes_for_all_classes())
    faces = load_faces(config(tmp_path, "ferplus"))
    assert faces.classes == EXPRESSIONS
    assert list(faces.ids) == list(range(25))
    assert np.array_equal(faces.images[:, 0].numpy(), PIXELS[:25])
    named = [faces.classes[label] for label in faces.labels]
    assert named == [EMOTIONS[i] for i in [*range(8), *range(6), *range(7), *range(4)]]
    assert faces.extras["dropped"] == {"tie": 1, "unknown": 1, "not_a_face": 1}
    again = load_faces(config(tmp_path, "ferplus"))
    assert same(faces, again) and again.extras == faces.extras


def test_ferplus_duplicates_count_only_against_faces_that_were_kept(tmp_path):
    lines = csv_lines()
    for copy, original in ((15, 1), (16, 2)):  # two validation rows repeat two train rows
        before, _, usage = lines[copy].split(",")
        lines[copy] = f"{before},{lines[original].split(',')[1]},{usage}"
    write(tmp_path, lines)
    votes = votes_for_all_classes()
    votes[0] = [0] * 9 + [10]  # the first original is dropped
    write_votes(tmp_path, votes)
    faces = load_faces(config(tmp_path, "ferplus"))
    assert faces.ids[faces.duplicate].tolist() == [15]
    assert load_faces(config(tmp_path)).duplicate.nonzero()[0].tolist() == [14, 15]


@pytest.mark.parametrize(
    "rows, usage, message",
    [
        (27, USAGE[:27], "27 rows, but the FER2013 file has 28"),
        (28, [*USAGE[:13], "PublicTest", *USAGE[14:]], "row 14 .*PublicTest.*train face"),
    ],
)
def test_ferplus_refuses_votes_of_another_file(tmp_path, rows, usage, message):
    write(tmp_path, csv_lines())
    write_votes(tmp_path, votes_for_all_classes()[:rows], usage)
    with pytest.raises(InputError, match=f"fer2013new.csv.*{message}"):
        load_faces(config(tmp_path, "ferplus"))


@pytest.mark.parametrize("bad", ["", "x", "-1", "1.5"])
def test_ferplus_refuses_votes_that_are_no_counts(tmp_path, bad):
    write(tmp_path, csv_lines())
    votes = votes_for_all_classes().tolist()
    votes[4][2] = bad
    write_votes(tmp_path, votes)
    with pytest.raises(InputError, match="fer2013new.csv, row 5 .*whole numbers"):
        load_faces(config(tmp_path, "ferplus"))
