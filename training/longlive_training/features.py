"""A distance between sets of videos in the manner of FVD: the Fréchet distance of features of one-second looks.

The features are the judge's own second stage, before it forgets what the attributes do not need: per channel the mean and the
spread over the picture, which tell textures, outlines and motion. Distances are only comparable with each other, on the
same number of looks; the renderer against itself under other seeds is the floor.
"""

import numpy as np
import torch
from torch import Tensor

from .judge import Judge

STAGE = 1


def features(judge: Judge, looks: Tensor) -> np.ndarray:
    """float64 [n, 2 * channels]."""
    with torch.inference_mode():
        return pooled_stage(judge.stages(looks))


def pooled_stage(stages: list[Tensor]) -> np.ndarray:
    """The features of looks that the judge has already looked at."""
    x = stages[STAGE]
    return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)) of features [n, d] with covariances A and B."""
    mean_a, mean_b = a.mean(0), b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root_a = _root(cov_a)
    mixed = np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(0)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(mixed).sum())


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
