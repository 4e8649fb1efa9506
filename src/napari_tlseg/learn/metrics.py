"""How well predictions agree with the truth: per case and class, over cases, and between two ways to train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_tlseg.data.case import Labels
from napari_tlseg.data.geometry import Unit

Measure = Literal["dice", "precision", "recall", "iou", "hd95"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One class of one case. A measure whose denominator is 0 is undefined, None, and left out of every mean."""

    case: str
    part: str
    """training, validation or held-out."""
    class_name: str
    dice: float | None
    """2 TP / (2 TP + FP + FN)."""
    precision: float | None
    """TP / (TP + FP); None where nothing was predicted."""
    recall: float | None
    """TP / (TP + FN); None where there is nothing to find."""
    iou: float | None
    """TP / (TP + FP + FN)."""
    hd95: float | None
    """Distance between the two surfaces, 95th percentile, in `unit`; None where one of them is missing."""
    unit: Unit
    tp: int
    fp: int
    fn: int
    seen: bool
    """The source of the model was trained on this case: the score flatters, and is left out of the means."""


def score_case(
    truth: Labels,
    prediction: Labels,
    *,
    spacing: Sequence[float],
    unit: Unit,
    classes: tuple[str, ...],
    case: str,
    part: str,
    seen: bool = False,
    distances: bool = True,
) -> list[Score]:
    """One score per foreground class; a volume is one body, not the mean of its planes.

    truth, prediction: (N, Y, X) or (Y, X), on the native grid. spacing: `unit` per pixel, (N, Y, X) or (Y, X).
    classes: names with the background first. distances: False leaves `hd95` out, by far the slowest measure.
    """
    truth, prediction = (labels.reshape(-1, *labels.shape[-2:]) for labels in (truth, prediction))
    counts = confusion_matrix(truth, prediction, len(classes))
    boxes = [ndimage.find_objects(labels, len(classes) - 1) if distances else () for labels in (truth, prediction)]
    scores = []
    for label, name in enumerate(classes[1:], start=1):
        tp = int(counts[label, label])
        fp, fn = int(counts[:, label].sum()) - tp, int(counts[label].sum()) - tp
        hd95 = None
        if distances and tp + fp and tp + fn:
            box = _joint(boxes[0][label - 1], boxes[1][label - 1])
            hd95 = hausdorff_95(truth[box] == label, prediction[box] == label, spacing)
        scores.append(
            Score(
                case=case,
                part=part,
                class_name=name,
                dice=_ratio(2 * tp, 2 * tp + fp + fn),
                precision=_ratio(tp, tp + fp),
                recall=_ratio(tp, tp + fn),
                iou=_ratio(tp, tp + fp + fn),
                hd95=hd95,
                unit=unit,
                tp=tp,
                fp=fp,
                fn=fn,
                seen=seen,
            )
        )
    return scores


def confusion_matrix(truth: Labels, prediction: Labels, classes: int) -> NDArray[np.int64]:
    """Pixels of each true class (row) that were given each class (column); both arrays (N, Y, X)."""
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
    if max(truth.max(initial=0), prediction.max(initial=0)) >= classes:
        raise ValueError(f"labels beyond the {classes} classes")
    counts = np.zeros(classes * classes, np.int64)
    for true, given in zip(
        truth, prediction, strict=True
    ):  # a plane fits the cache, a volume as int64 hardly the memory
        counts += np.bincount((true.astype(np.intp) * classes + given).ravel(), minlength=counts.size)
    return counts.reshape(classes, classes)


def hausdorff_95(truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """95th percentile of the distances from surface to surface, the larger of the two directions.

    truth, prediction: (N, Y, X), neither empty. The surface is made of the foreground pixels that have a background
    pixel beside them, above or below; outside the array is background. A single plane is measured as an image: as a
    volume every pixel of it would be surface.
    """
    from monai.metrics.utils import get_mask_edges, get_surface_distance  # imports torch

    axes = 2 if len(truth) == 1 else 3
    # SciPy's tree of points at coordinate 0 recurses for ever where denormals are flushed to zero, hence the margin
    padded = (np.pad(mask.reshape(mask.shape[-axes:]), 1) for mask in (prediction, truth))
    edges = get_mask_edges(*padded, crop=False)
    directed = [get_surface_distance(*pair, spacing=tuple(spacing[-axes:])) for pair in (edges, edges[::-1])]
    return max(float(np.percentile(distance, 95)) for distance in directed)


def summarize(scores: Iterable[Score], part: str) -> dict[str, Any]:
    """Means over the cases of one part, as `summary.json` holds them; None where nothing is defined.

    The mean over cases of the mean over a case's foreground classes, so that a case counts once however many classes
    it shows. Precision is undefined where nothing was predicted: read it beside recall. `cases` names all cases of the
    part, `seen` those that the source saw (not in the means), `undefined` counts the classes absent from truth
    and prediction alike.
    """
    own = [score for score in scores if score.part == part]
    fresh = [score for score in own if not score.seen]
    units = {score.unit for score in fresh}
    dice = list(case_means(fresh, "dice").values())
    return {
        "cases": _names(own),
        "seen": _names(score for score in own if score.seen),
        "scored": len(dice),
        "undefined": sum(score.dice is None for score in fresh),
        "dice_mean": _mean(dice),
        "dice_sd": stdev(dice) if len(dice) > 1 else None,
        "precision_mean": _mean(case_means(fresh, "precision").values()),
        "recall_mean": _mean(case_means(fresh, "recall").values()),
        "iou_mean": _mean(case_means(fresh, "iou").values()),
        "hd95_mean": _mean(case_means(fresh, "hd95").values()) if len(units) == 1 else None,  # mm and px do not add up
        "hd95_unit": units.pop() if len(units) == 1 else None,
        "classes": {
            name: _mean(score.dice for score in fresh if score.class_name == name)
            for name in dict.fromkeys(score.class_name for score in fresh)
        },
    }


def case_means(scores: Iterable[Score], measure: Measure) -> dict[str, float]:
    """The mean of a measure over the classes of each case in which it is defined; cases without one are left out."""
    values: dict[str, list[float]] = {}
    for score in scores:
        value: float | None = getattr(score, measure)
        if value is not None:
            values.setdefault(score.case, []).append(value)
    return {case: fmean(own) for case, own in values.items()}


def paired_test(a: Mapping[Any, float], b: Mapping[Any, float]) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test that two ways to train do equally well on the same cases.

    a, b: Dice by case (`case_means`), or by (seed, case); only what both have is paired. None below 6 pairs, where no
    outcome could reach p < 0.05, and where all pairs are equal. Pairs that share a model or a patient are not
    independent, and folds share training cases: p is then too small.

    >>> paired_test({n: 0.8 + n / 100 for n in range(6)}, {n: 0.7 for n in range(6)})
    0.03125
    """
    from scipy import stats  # slow to import

    differences = [a[key] - b[key] for key in a if key in b]
    if len(differences) < 6 or not any(differences):
        return None
    return float(stats.wilcoxon(differences).pvalue)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def _names(scores: Iterable[Score]) -> list[str]:
    return list(dict.fromkeys(score.case for score in scores))


def _joint(a: tuple[slice, ...], b: tuple[slice, ...]) -> tuple[slice, ...]:
    """The smallest box that holds two boxes."""
    return tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
