import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist

from napari_tlseg.learn.metrics import (
    Score,
    case_means,
    confusion_matrix,
    hausdorff_95,
    paired_test,
    score_case,
    summarize,
)

TWO = ("background", "disc")
THREE = ("background", "lung", "infection")
unhurried = settings(deadline=None)
label_images = arrays(np.uint8, (3, 5, 4), elements=st.integers(0, 2))
masks = arrays(bool, st.sampled_from([(1, 6, 5), (4, 5, 6)]))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 2.5, 7.0])] * 3)


def score(truth, prediction, classes=TWO, spacing=(1.0, 1.0, 1.0), **more):
    more = {"case": "a", "part": "held-out", "unit": "px", **more}
    return score_case(
        np.array(truth, np.uint8), np.array(prediction, np.uint8), spacing=spacing, classes=classes, **more
    )


def made(case="a", part="held-out", dice=0.5, **more):
    measures = dict.fromkeys(("precision", "recall", "iou", "hd95"), dice)
    fields = {"class_name": "disc", "unit": "px", "tp": 1, "fp": 1, "fn": 1, "seen": False, **measures, **more}
    return Score(case=case, part=part, dice=dice, **fields)


def brute_force_hd95(truth, prediction, spacing):
    """Each surface pixel against each, from the definition."""
    if len(truth) == 1:
        truth, prediction, spacing = truth[0], prediction[0], spacing[1:]
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array(spacing) for mask in (truth, prediction)]
    distance = cdist(*points)
    return max(np.percentile(distance.min(axis), 95) for axis in (0, 1))


def test_a_score_by_hand():
    (result,) = score([[1, 1, 1, 0, 0]], [[0, 1, 1, 1, 1]], spacing=(2.0, 3.0))
    assert (result.tp, result.fp, result.fn) == (2, 2, 1)
    assert result.dice == 4 / 7
    assert (result.precision, result.recall, result.iou) == (0.5, 2 / 3, 0.4)
    # truth to prediction 3, 0, 0; back 0, 0, 3, 6: percentile 95 of the latter, interpolated
    assert result.hd95 == pytest.approx(3 + 0.85 * 3)


def test_each_class_is_scored_by_itself():
    lung, infection = score([[1, 1, 2, 2]], [[1, 2, 2, 0]], THREE, spacing=(1, 1))
    assert (lung.class_name, lung.tp, lung.fp, lung.fn) == ("lung", 1, 0, 1)
    assert (infection.class_name, infection.tp, infection.fp, infection.fn) == ("infection", 1, 1, 1)


def test_both_empty_is_undefined():
    (result,) = score([[0, 0]], [[0, 0]])
    assert (result.dice, result.precision, result.recall, result.iou, result.hd95) == (None,) * 5
    assert (result.tp, result.fp, result.fn) == (0, 0, 0)


def test_nothing_predicted():
    (result,) = score([[1, 0]], [[0, 0]])
    assert (result.dice, result.precision, result.recall, result.iou, result.hd95) == (0, None, 0, 0, None)


def test_nothing_to_find():
    (result,) = score([[0, 0]], [[1, 0]])
    assert (result.dice, result.precision, result.recall, result.iou, result.hd95) == (0, 0, None, 0, None)


@unhurried
@given(label_images, label_images)
def test_measures_agree_with_their_definitions_on_sets(truth, prediction):
    for label, result in enumerate(score(truth, prediction, THREE, distances=False), start=1):
        true, given_ = ({*map(tuple, np.argwhere(array == label))} for array in (truth, prediction))
        assume(true or given_)
        assert result.dice == pytest.approx(2 * len(true & given_) / (len(true) + len(given_)))
        assert result.iou == pytest.approx(len(true & given_) / len(true | given_))
        assert result.dice == pytest.approx(2 * result.iou / (1 + result.iou))
        assert result.precision == (len(true & given_) / len(given_) if given_ else None)
        assert result.recall == (len(true & given_) / len(true) if true else None)


@unhurried
@given(label_images, label_images)
def test_truth_and_prediction_may_be_exchanged(truth, prediction):
    for there, back in zip(score(truth, prediction, THREE), score(prediction, truth, THREE), strict=True):
        assert (there.dice, there.iou, there.hd95) == (back.dice, back.iou, back.hd95)
        assert (there.precision, there.fp) == (back.recall, back.fn)


@unhurried
@given(label_images, label_images)
def test_the_confusion_matrix_counts_every_pixel_once(truth, prediction):
    counts = confusion_matrix(truth, prediction, 3)
    assert counts.sum() == truth.size
    assert counts[1, 2] == ((truth == 1) & (prediction == 2)).sum()
    assert (counts == confusion_matrix(truth[::-1], prediction[::-1], 3)).all()


def test_an_image_is_a_volume_of_one_plane():
    truth, prediction = np.eye(5, dtype=np.uint8), np.ones((5, 5), np.uint8)
    assert score(truth, prediction, spacing=(2, 1)) == score(truth[None], prediction[None], spacing=(9, 2, 1))


def test_a_volume_is_scored_as_one_body():
    truth, prediction = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    truth[0], prediction[0], prediction[1, 0, 0] = 1, 1, 1
    assert score(truth, prediction, distances=False)[0].dice == 32 / 33  # the mean over planes is 1/2


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="shape"):
        score([[0, 1]], [[0, 1, 1]])
    with pytest.raises(ValueError, match="beyond the 2 classes"):
        score([[0, 1]], [[0, 2]])


@unhurried
@given(masks.flatmap(lambda a: st.tuples(st.just(a), arrays(bool, a.shape))), spacings)
def test_hd95_agrees_with_brute_force(pair, spacing):
    truth, prediction = pair
    assume(truth.any() and prediction.any())
    expected = brute_force_hd95(truth, prediction, spacing)
    assert hausdorff_95(truth, prediction, spacing) == pytest.approx(expected, rel=1e-5)
    (result,) = score(truth, prediction, spacing=spacing, unit="mm")
    assert result.hd95 == pytest.approx(expected, rel=1e-5)  # the box it is cropped to changes nothing


@pytest.mark.parametrize(("axis", "expected"), [(0, 10.0), (1, 4.0), (2, 1.0)])
def test_hd95_is_physical(axis, expected):
    truth, prediction = np.zeros((2, 7, 7, 7), np.uint8)
    truth[3, 3, 3] = 1
    prediction[tuple(3 + 2 * (axis == n) for n in range(3))] = 1
    assert score(truth, prediction, spacing=(5.0, 2.0, 0.5))[0].hd95 == expected


def test_a_few_stray_pixels_do_not_make_the_distance():
    truth = np.zeros((1, 60, 60), np.uint8)
    truth[0, 5:45, 5:45] = 1
    prediction = truth.copy()
    prediction[0, 59, 59] = 1
    assert score(truth, prediction)[0].hd95 == 0


def test_summary_averages_classes_within_a_case_then_cases():
    scores = [made("a", dice=1.0), made("a", dice=0.0, class_name="cup"), made("b", dice=0.8)]
    summary = summarize(scores, "held-out")
    assert summary["dice_mean"] == pytest.approx((0.5 + 0.8) / 2)
    assert summary["dice_sd"] == pytest.approx(np.std([0.5, 0.8], ddof=1))
    assert summary["classes"] == {"disc": 0.9, "cup": 0.0}
    assert (summary["cases"], summary["scored"]) == (["a", "b"], 2)
    assert json.loads(json.dumps(summary)) == summary


def test_summary_counts_the_undefined_and_leaves_them_out():
    empty = made("b", dice=None)
    summary = summarize([made("a", dice=0.9), empty, made("c", dice=0.0, hd95=None, precision=None)], "held-out")
    assert (summary["dice_mean"], summary["precision_mean"], summary["hd95_mean"]) == (0.45, 0.9, 0.9)
    assert (summary["undefined"], summary["scored"], summary["cases"]) == (1, 2, ["a", "b", "c"])


def test_summary_leaves_out_what_the_source_saw():
    summary = summarize([made("a", dice=0.5), made("b", dice=1.0, seen=True)], "held-out")
    assert (summary["dice_mean"], summary["dice_sd"], summary["seen"]) == (0.5, None, ["b"])


def test_summary_of_another_part_is_empty():
    summary = summarize([made(part="training")], "held-out")
    assert (summary["cases"], summary["dice_mean"], summary["hd95_mean"], summary["classes"]) == ([], None, None, {})


def test_mm_and_pixels_are_not_averaged():
    summary = summarize([made("a", unit="mm"), made("b", unit="px")], "held-out")
    assert (summary["hd95_mean"], summary["hd95_unit"], summary["dice_mean"]) == (None, None, 0.5)


def test_means_of_cases_are_what_is_paired():
    scores = [made("a", dice=0.5), made("a", dice=1.0, class_name="cup"), made("b", dice=None), made("c", dice=0.2)]
    assert case_means(scores, "dice") == {"a": 0.75, "c": 0.2}
    assert case_means(scores, "precision") == {"a": 0.75, "c": 0.2}


def test_paired_test_pairs_by_case():
    a = {name: 0.8 + 0.01 * n for n, name in enumerate("abcdefg")}
    b = dict.fromkeys("gfedcb", 0.7)
    assert paired_test(a, b) == 2 / 2**6  # six pairs, all one way
    assert paired_test(a, dict(list(b.items())[1:])) is None
    assert paired_test(a, dict(a)) is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])] * 2), max_size=70))
def test_paired_test_is_quiet_with_ties_and_does_not_care_who_is_first(pairs):
    a, b = ({n: pair[side] for n, pair in enumerate(pairs)} for side in (0, 1))
    p = paired_test(a, b)
    assert p == paired_test(b, a)
    assert p is None or 0 < p <= 1


@pytest.mark.parametrize("module", ["learn.metrics", "learn.postprocess", "data.overlay"])
def test_the_module_is_imported_without_torch(module):
    program = f"import sys, napari_tlseg.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", program], check=False).returncode == 0
