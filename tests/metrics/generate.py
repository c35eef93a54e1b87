"""Expected values for crates/esmm-metrics/tests/scikit_learn.rs, from scikit-learn where it has the metric and from the definition where not.

    pip install -r requirements.txt && python generate.py

Writes ranking.json, log_loss.json, funnel.json and million.json beside this file. Seed 20180407 (numpy's PCG64).
DeLong's variance is the O(mn) definition: all pairs, then sample variances of the structural components. Scores,
log-probabilities and truths are float32 values, written with the digits that give them back exactly.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import log_loss, roc_auc_score

HERE = Path(__file__).parent
VERSIONS = {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "seed": 20180407}
Z_975 = 1.959963984540054
warnings.simplefilter("ignore", UndefinedMetricWarning)


def f32(values):
    return np.asarray(values, dtype=np.float32)


def digits(values):
    return [float(str(value)) for value in f32(values).ravel()]


def auc(labels, scores):
    value = float(roc_auc_score(labels, scores)) if len(labels) else float("nan")
    return None if np.isnan(value) else value


def delong_variance(labels, scores):
    """None where a class has fewer than two rows."""
    labels, scores = np.asarray(labels, bool), np.asarray(scores, np.float64)
    above, below = scores[labels], scores[~labels]
    if min(len(above), len(below)) < 2:
        return None
    wins = (above[:, None] > below[None, :]) + 0.5 * (above[:, None] == below[None, :])
    v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
    return float(v10.var(ddof=1) / len(above) + v01.var(ddof=1) / len(below))


def ci95(labels, scores):
    variance = delong_variance(labels, scores)
    if variance is None:
        return None
    half = Z_975 * variance**0.5
    return [max(0.0, auc(labels, scores) - half), min(1.0, auc(labels, scores) + half)]


def soft_auc(scores, truth):
    """Every pair of different rows, weighted with the probability that the first is positive, the second negative."""
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    weights = truth[:, None] * (1.0 - truth[None, :])
    np.fill_diagonal(weights, 0.0)
    wins = (scores[:, None] > scores[None, :]) + 0.5 * (scores[:, None] == scores[None, :])
    return float((weights * wins).sum() / weights.sum())


def gauc(groups, labels, scores):
    groups, labels, scores = np.asarray(groups), np.asarray(labels), np.asarray(scores)
    weights, values, skipped = [], [], 0
    for group in np.unique(groups):
        rows = groups == group
        value = auc(labels[rows], scores[rows])
        if value is None:
            skipped += 1
        else:
            weights.append(int(rows.sum()))
            values.append(value)
    return {"value": float(np.average(values, weights=weights)), "groups_used": len(values), "groups_skipped": skipped}


def entropy(labels):
    return log_loss(labels, np.full(len(labels), np.mean(labels)), labels=[0, 1])


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))


def log_sigmoid(logits):
    return -np.logaddexp(0.0, -np.asarray(logits, np.float64))


def ranking(rng):
    normal = rng.standard_normal(300)
    labels = (normal + rng.standard_normal(300) > 0.8).astype(int)
    rare = np.zeros(400, int)
    rare[[3, 140, 371]] = 1
    uniform = rng.random(400)
    cases = {
        "distinct": (normal, labels),
        "ties": (np.round(normal * 2) / 2, labels),
        "two levels": (normal > 0.5, labels),
        "all equal": (np.zeros(300), labels),
        "reversed": (-np.round(normal), labels),
        "separated": (labels * 3.0 - 1.0, labels),
        "rare": (uniform + 0.3 * rare, rare),
        "a single positive": (normal, np.arange(300) == 17),
        "no positives": (normal, np.zeros(300)),
        "no negatives": (normal, np.ones(300)),
        "no rows": ([], []),
    }
    return [
        {
            "name": name,
            "scores": digits(scores),
            "labels": np.asarray(labels, int).tolist(),
            "auc": auc(np.asarray(labels, int), f32(scores)),
            "variance": delong_variance(labels, f32(scores)),
            "ci95": ci95(np.asarray(labels, int), f32(scores)),
        }
        for name, (scores, labels) in cases.items()
    ]


def log_losses(rng):
    cases = []
    for name, center, scale in [("even", 0.0, 1.0), ("rare", -5.0, 1.5), ("extreme", 0.0, 9.0)]:
        logits = center + scale * rng.standard_normal(300)
        labels = (rng.random(300) < sigmoid(np.clip(logits, -5, 5))).astype(int)
        log_p = f32(log_sigmoid(logits))
        log_not_p = f32(log_sigmoid(-logits))
        expected = log_loss(labels, sigmoid(logits), labels=[0, 1])
        cases.append(
            {
                "name": name,
                "log_p": digits(log_p),
                "log_not_p": digits(log_not_p),
                "labels": labels.tolist(),
                "log_loss": float(expected),
                "normalized_entropy": float(expected / entropy(labels)),
                "calibration": float(sigmoid(logits).sum() / labels.sum()),
            }
        )
    return cases


def task(labels, scores, prob, groups):
    loss = float(log_loss(labels, prob, labels=[0, 1]))
    return {
        "auc": auc(labels, scores),
        "auc_ci95": ci95(labels, scores),
        "log_loss": loss,
        "normalized_entropy": float(loss / entropy(labels)),
        "calibration": float(prob.sum() / labels.sum()),
        "gauc": gauc(groups, labels, scores),
    }


def funnel(rng, rows=600):
    """Two stages; the labels come from a truth with hidden confounding, the predictions are the truth with noise."""
    signal = rng.standard_normal((rows, 2)) @ np.array([[1.0, 0.5], [0.0, 0.9]]) + np.array([-1.0, -0.7])
    hidden = rng.choice([-1.0, 1.0], (rows, 1))
    happened = rng.random((rows, 2)) < sigmoid(signal + hidden)
    depth = np.where(happened[:, 0], 1 + happened[:, 1], 0)
    low, high = sigmoid(signal - 1.0), sigmoid(signal + 1.0)
    true_ctr, true_cvr = f32((low + high) / 2).T
    true_ctcvr = f32((low.prod(axis=1) + high.prod(axis=1)) / 2)
    logits = f32(np.round((signal + 0.7 * rng.standard_normal((rows, 2))) * 16) / 16)
    log_ctr, log_cvr = log_sigmoid(logits).T
    log_reach = f32(np.stack([log_ctr, log_ctr + log_cvr], axis=1))
    ctr, cvr = sigmoid(logits).T
    log_not_reach = f32(np.log1p(-np.stack([ctr, ctr * cvr], axis=1)))
    groups = rng.integers(0, 90, rows) * 1_000_003
    clicks, conversions = (depth >= 1).astype(int), (depth >= 2).astype(int)
    clicked = depth >= 1
    return {
        "rows": {
            "log_reach": digits(log_reach),
            "log_not_reach": digits(log_not_reach),
            "conditional_logit": digits(logits),
            "depth": depth.tolist(),
            "group": groups.tolist(),
            "true_ctr": digits(true_ctr),
            "true_cvr": digits(true_cvr),
            "true_ctcvr": digits(true_ctcvr),
        },
        "expected": {
            "rows": rows,
            "clicks": int(clicks.sum()),
            "conversions": int(conversions.sum()),
            "ctr": task(clicks, logits[:, 0], ctr, groups),
            "cvr": task(conversions[clicked], logits[clicked, 1], cvr[clicked], groups[clicked]),
            "ctcvr": task(conversions, log_reach[:, 1], ctr * cvr, groups),
            "entire_space": {
                "cvr_auc": soft_auc(logits[:, 1], true_cvr),
                "cvr_calibration": float(cvr.sum() / true_cvr.astype(np.float64).sum()),
                "best": {
                    "ctr_auc": auc(clicks, true_ctr),
                    "cvr_auc": auc(conversions[clicked], (true_ctcvr / true_ctr)[clicked]),
                    "ctcvr_auc": auc(conversions, true_ctcvr),
                    "entire_space_cvr_auc": soft_auc(true_cvr, true_cvr),
                },
            },
        },
    }


def million(rows=1_000_000):
    """The rows are not stored: both sides draw them from x <- 6364136223846793005 x + 1442695040888963407 mod 2^64,
    x = 20180407 at first, two steps a row. The score is the top 12 of the first step's bits over 4096 (ties), the
    label is whether the second step's top 24 bits are below 2^24 / 50 + (top 24 of the first step's bits) / 8."""
    state, scores, labels = 20180407, np.empty(rows, np.float32), np.empty(rows, np.int64)
    for row in range(rows):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        first = state >> 40
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        scores[row] = (first >> 12) / 4096
        labels[row] = (state >> 40) < 2**24 // 50 + first // 8
    probs = 0.02 + scores.astype(np.float64) / 8
    loss = float(log_loss(labels, probs, labels=[0, 1]))
    return {
        "rows": rows,
        "positives": int(labels.sum()),
        "auc": auc(labels, scores),
        "variance": variance_by_level(labels, scores),
        "log_loss": loss,
        "normalized_entropy": float(loss / entropy(labels)),
        "calibration": float(probs.sum() / labels.sum()),
    }


def variance_by_level(labels, scores):
    """delong_variance for scores of few levels: all pairs of levels, each with its count."""
    levels, index = np.unique(scores, return_inverse=True)
    above = np.bincount(index[labels == 1], minlength=len(levels)).astype(np.float64)
    below = np.bincount(index[labels == 0], minlength=len(levels)).astype(np.float64)
    wins = (levels[:, None] > levels[None, :]) + 0.5 * (levels[:, None] == levels[None, :])
    m, n = above.sum(), below.sum()
    v10, v01 = wins @ below / n, above @ wins / m
    value = above @ v10 / m
    return float(above @ (v10 - value) ** 2 / ((m - 1) * m) + below @ (v01 - value) ** 2 / ((n - 1) * n))


def write(name, content):
    text = json.dumps({"versions": VERSIONS, **content}, indent=None, separators=(",", ":"), allow_nan=False)
    (HERE / name).write_text(text + "\n")


if __name__ == "__main__":
    rng = np.random.default_rng(VERSIONS["seed"])
    write("ranking.json", {"cases": ranking(rng)})
    write("log_loss.json", {"cases": log_losses(rng)})
    write("funnel.json", funnel(rng))
    write("million.json", million())
