"""Contrastive losses: InfoNCE in its plain, per-clip, text and soft forms.

Rows are samples. None of these functions normalises its input unless it says so: the caller
decides what the similarity is (unit rows make it the cosine). All compute in float32, whatever
autocast does around them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.runtime.precision import in_float32


@in_float32
def info_nce(
    predictions: Tensor, targets: Tensor, temperature: float, *, bidirectional: bool = True
) -> Tensor:
    """InfoNCE over the rows of a batch: row ``i`` belongs with row ``i``.

    Parameters
    ----------
    predictions, targets : Tensor
        ``(batch, dim)``, usually unit rows.
    temperature : float
        Divides the inner products, > 0.
    bidirectional : bool
        Mean of both directions, else predictions to targets only.

    Returns
    -------
    Tensor
        Scalar, in nats.
    """
    logits = predictions @ targets.T / temperature
    labels = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, labels)
    if bidirectional:
        loss = (loss + F.cross_entropy(logits.T, labels)) / 2
    return loss


@in_float32
def frame_info_nce(predictions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Bidirectional InfoNCE among the frames of each clip, the second half of Eq. 1.

    A frame's negatives are the other frames of its own clip, never those of other clips.

    Parameters
    ----------
    predictions, targets : Tensor
        ``(clips, frames, ...)``; everything after the frame axis is flattened and compared by
        cosine.
    temperature : float
        Divides the cosine, > 0.

    Returns
    -------
    Tensor
        Scalar, in nats, mean over clips and frames.
    """
    x = F.normalize(targets.flatten(2), dim=-1)
    y = F.normalize(predictions.flatten(2), dim=-1)
    logits = x @ y.transpose(1, 2) / temperature
    labels = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    return (F.cross_entropy(logits.transpose(1, 2), labels) + F.cross_entropy(logits, labels)) / 2


@in_float32
def reftm_loss(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Eq. 10: the projected reconstruction embedding against its caption's embedding.

    Captions repeat (one scene lasts several clips), so a pair whose captions are the same is not
    used as a negative: only the row's own pair stays in the denominator.

    Parameters
    ----------
    image : Tensor
        ``(batch, dim)``, token mean times the frozen projector.
    text : Tensor
        ``(batch, dim)``, caption embeddings. Both are normalised here.
    temperature : float
        Divides the cosine, > 0.

    Returns
    -------
    Tensor
        Scalar, in nats, mean of both directions.
    """
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    labels = torch.arange(len(text), device=text.device)
    same = (text @ text.T) > 1 - 1e-4
    same.fill_diagonal_(False)
    logits = (image @ text.T / temperature).masked_fill(same, float("-inf"))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@in_float32
def soft_clip_loss(predictions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """SoftCLIP: cross-entropy to the softmax of the target-target similarities (MindEye).

    Parameters
    ----------
    predictions, targets : Tensor
        ``(batch, dim)``, usually unit rows.
    temperature : float
        Divides both kinds of inner product, > 0.

    Returns
    -------
    Tensor
        Scalar, mean of both directions.
    """
    teacher = (targets @ targets.T / temperature).softmax(-1)
    logits = predictions @ targets.T / temperature
    return (F.cross_entropy(logits, teacher) + F.cross_entropy(logits.T, teacher)) / 2


@in_float32
def soft_contrastive_loss(
    predictions: Tensor, targets: Tensor, views: Tensor, temperature: float
) -> Tensor:
    """SoftCLIP in which targets and predictions are compared with a second view of the targets.

    Parameters
    ----------
    predictions, targets, views : Tensor
        ``(batch, dim)``; ``views`` is another view of ``targets``.
    temperature : float
        Divides all inner products, > 0.

    Returns
    -------
    Tensor
        Scalar, mean of both directions; the second one uses the transposed teacher similarities.
    """
    similarity = targets @ views.T / temperature
    logits = predictions @ views.T / temperature
    forward = F.cross_entropy(logits, similarity.softmax(-1))
    return (forward + F.cross_entropy(logits.T, similarity.T.softmax(-1))) / 2


def annealed_temperature(first: float, last: float, step: int, steps: int) -> float:
    """Half a cosine from ``first`` to ``last``: SoftCLIP's temperature in MindEye2.

    Parameters
    ----------
    first, last : float
        Temperatures of the first and the last step.
    step, steps : int
        0 .. ``steps - 1``, and how many there are.
    """
    share = step / max(steps - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
