"""Detectability: how well six numbers of an image tell real from synthetic ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

from ..data.traces import FEATURES
from ..data.traces import fingerprint
from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 10  # images of each kind: five folds with two of each
_FOLDS = 5
_DRAWS = 1000
_VISIBLE, _STRONG = 0.6, 0.8


@final
@dataclass(frozen=True, slots=True)
class Detectability:
    """A classifier two-sample test with a weak classifier.

    A small AUC does not say that the images are alike, only that these six numbers do not
    tell them apart; a large one says that a network has a short cut: "looks synthetic,
    so there is a lesion".

    Args:
        auc: Area under the ROC curve, cross-validated. At 0.5 and below, the six numbers
            have no usable signal.
        low, high: Its 95 % confidence interval, by bootstrap over images.
        real, synthetic: How many images of each kind.
        strongest: The feature that alone tells them apart best.
        strongest_auc: How well, at least 0.5.
    """

    auc: float
    low: float
    high: float
    real: int
    synthetic: int
    strongest: str
    strongest_auc: float

    @property
    def verdict(self) -> str:
        """`"not told apart"`, `"visible"` or `"a strong short cut"`."""
        if self.auc > _STRONG:
            return "a strong short cut"
        return "visible" if self.auc > _VISIBLE else "not told apart"

    def __str__(self) -> str:
        return (
            f"AUC {self.auc:.2f} (95 % CI {self.low:.2f} to {self.high:.2f}), {self.verdict}; "
            f"strongest alone: {self.strongest} ({self.strongest_auc:.2f}); "
            f"{self.real} real, {self.synthetic} synthetic images"
        )


def detectability(real: Sequence[Any], synthetic: Sequence[Any]) -> Detectability:
    """How well a logistic regression tells the images of two kinds apart.

    After the classifier two-sample test of Lopez-Paz and Oquab (2017, arXiv 1610.06545),
    with six features instead of a network.

    Args:
        real, synthetic: Images `[C, X, Y, Z]`, each of another patient or volume.

    Raises:
        DataError: for fewer than 10 images of a kind, or without scikit-learn.
    """
    kinds = ([fingerprint(image) for image in images] for images in (real, synthetic))
    return detectability_of(*kinds)


def detectability_of(
    real: Sequence[Sequence[float]], synthetic: Sequence[Sequence[float]]
) -> Detectability:
    """The same from fingerprints, one for each image.

    Raises:
        DataError: for fewer than 10 images of a kind, or without scikit-learn.
    """
    if min(len(real), len(synthetic)) < LEAST:
        msg = (
            f"a detector needs at least {LEAST} images of each kind, got {len(real)} real and "
            f"{len(synthetic)} synthetic"
        )
        raise DataError(msg)
    features = np.asarray([*real, *synthetic], dtype=np.float64)
    is_synthetic = np.repeat([0, 1], [len(real), len(synthetic)])
    scores = _held_out_scores(features, is_synthetic)
    low, high = _interval(scores, is_synthetic)
    alone = [_auc(column, is_synthetic) for column in features.T]
    best = int(np.argmax([max(value, 1 - value) for value in alone]))
    return Detectability(
        auc=_auc(scores, is_synthetic),
        low=low,
        high=high,
        real=len(real),
        synthetic=len(synthetic),
        strongest=FEATURES[best],
        strongest_auc=max(alone[best], 1 - alone[best]),
    )


def _held_out_scores(
    features: NDArray[np.float64], is_synthetic: NDArray[np.int64]
) -> NDArray[np.float64]:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold
        from sklearn.model_selection import cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        msg = "a detector needs scikit-learn; run `pip install 'nvgen_aug[study]'`"
        raise DataError(msg) from error
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    scores: NDArray[np.float64] = cross_val_predict(
        classifier, features, is_synthetic, cv=folds, method="decision_function"
    )
    return scores


def _interval(scores: NDArray[np.float64], kinds: NDArray[np.int64]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    places = [np.flatnonzero(kinds == kind) for kind in (0, 1)]
    found = []
    for _ in range(_DRAWS):
        drawn = np.concatenate([rng.choice(place, place.size) for place in places])
        found.append(_auc(scores[drawn], kinds[drawn]))
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def _auc(scores: NDArray[np.float64], kinds: NDArray[np.int64]) -> float:
    """Probability that a synthetic image scores above a real one, ties counted half."""
    order = np.sort(scores[kinds == 0])
    synthetic = scores[kinds == 1]
    below = np.searchsorted(order, synthetic, side="left")
    up_to = np.searchsorted(order, synthetic, side="right")
    return float((below + up_to).mean() / (2 * order.size))
