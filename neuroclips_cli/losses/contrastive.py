"""Contrastive losses: InfoNCE in its plain, per-clip, text and soft forms.

Rows are samples. None of these functions normalizes its input unless it says so: the caller
decides what the similarity is (unit rows make it the cosine). All compute in float32, also under
autocast.
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
    """Compute InfoNCE over the rows of a batch: row ``i`` belongs with row ``i``.

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
        Scalar, in nats, at least 0.

    See Also
    --------
    frame_info_nce : Among the frames of a clip.
    reftm_loss : For captions, which repeat.
    neuroclips_cli.losses.mixco.bimixco_loss : With mixed samples.

    Notes
    -----
    ``-(1 / B) sum_i log(exp(p_i . t_i / tau) / sum_j exp(p_i . t_j / tau))``
    (van den Oord et al. 2018).

    Examples
    --------
    Embeddings that are all the same leave a choice among three:

    >>> import math
    >>> from neuroclips_cli.losses import info_nce
    >>> rows = torch.ones(3, 2)
    >>> round(info_nce(rows, rows, 1.0).item(), 4), round(math.log(3), 4)
    (1.0986, 1.0986)
    >>> round(info_nce(torch.eye(3), torch.eye(3), 0.05).item(), 4)
    0.0
    """
    logits = predictions @ targets.T / temperature
    labels = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, labels)
    if bidirectional:
        loss = (loss + F.cross_entropy(logits.T, labels)) / 2
    return loss


@in_float32
def frame_info_nce(predictions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Compute bidirectional InfoNCE among the frames of each clip, the second half of Eq. 1.

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

    See Also
    --------
    info_nce : Among the rows of a batch.
    neuroclips_cli.losses.perception.perception_loss : The whole of Eq. 1.

    Notes
    -----
    Paper Eq. 1: ``-1 / (2 Nf) sum_j log(exp(sim(x_j, y_j) / tau) / sum_k exp(sim(x_j, y_k) /
    tau))`` plus the same with x and y exchanged.

    Examples
    --------
    >>> from neuroclips_cli.losses import frame_info_nce
    >>> frames = torch.eye(4)[None]
    >>> round(frame_info_nce(frames, frames, 0.05).item(), 4)
    0.0
    >>> round(frame_info_nce(torch.ones(1, 4, 2), torch.ones(1, 4, 2), 1.0).item(), 4)
    1.3863
    """
    x = F.normalize(targets.flatten(2), dim=-1)
    y = F.normalize(predictions.flatten(2), dim=-1)
    logits = x @ y.transpose(1, 2) / temperature
    labels = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    return (F.cross_entropy(logits.transpose(1, 2), labels) + F.cross_entropy(logits, labels)) / 2


@in_float32
def reftm_loss(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Compute Eq. 10: the projected reconstruction embedding against its caption's embedding.

    Parameters
    ----------
    image : Tensor
        ``(batch, dim)``, token mean times the frozen projector.
    text : Tensor
        ``(batch, dim)``, caption embeddings. Both are normalized here.
    temperature : float
        Divides the cosine, > 0.

    Returns
    -------
    Tensor
        Scalar, in nats, mean of both directions.

    See Also
    --------
    info_nce : The same loss for rows that do not repeat.

    Notes
    -----
    InfoNCE in both directions (paper B.2, Eq. 10). Off the diagonal, logits of pairs whose captions
    have a cosine above 1 - 1e-4 are minus infinity.

    Examples
    --------
    Two clips with the same caption are not negatives of each other:

    >>> from neuroclips_cli.losses import reftm_loss
    >>> image, text = torch.eye(2), torch.ones(2, 2)
    >>> round(reftm_loss(image, text, 1.0).item(), 4)
    0.0
    """
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    labels = torch.arange(len(text), device=text.device)
    same = (text @ text.T) > 1 - 1e-4
    same.fill_diagonal_(False)
    logits = (image @ text.T / temperature).masked_fill(same, float("-inf"))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@in_float32
def soft_clip_loss(predictions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Compute SoftCLIP: cross-entropy to the softmax of the target-target similarities (MindEye).

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

    See Also
    --------
    soft_contrastive_loss : With a second view of the targets.
    annealed_temperature : Its temperature in MindEye2.

    Notes
    -----
    ``-(1 / B) sum_ij softmax_j(t_i . t_j / tau) log softmax_j(p_i . t_j / tau)``
    (SoftCLIP of Scotti et al. 2023). Its least value is the entropy of the targets' softmax, not 0.

    Examples
    --------
    >>> from neuroclips_cli.losses import soft_clip_loss
    >>> round(soft_clip_loss(torch.eye(2), torch.eye(2), 0.05).item(), 4)
    0.0
    """
    teacher = (targets @ targets.T / temperature).softmax(-1)
    logits = predictions @ targets.T / temperature
    return (F.cross_entropy(logits, teacher) + F.cross_entropy(logits.T, teacher)) / 2


@in_float32
def soft_contrastive_loss(
    predictions: Tensor, targets: Tensor, views: Tensor, temperature: float
) -> Tensor:
    """Compute SoftCLIP against a second view of the targets.

    Targets and predictions are both compared with ``views``, as in the released perception loss.

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

    See Also
    --------
    soft_clip_loss : Without views.

    Examples
    --------
    >>> from neuroclips_cli.losses import soft_clip_loss, soft_contrastive_loss
    >>> rows = torch.eye(3)
    >>> soft = soft_contrastive_loss(rows, rows, rows, 0.1)
    >>> torch.allclose(soft, soft_clip_loss(rows, rows, 0.1))
    True
    """
    similarity = targets @ views.T / temperature
    logits = predictions @ views.T / temperature
    forward = F.cross_entropy(logits, similarity.softmax(-1))
    return (forward + F.cross_entropy(logits.T, similarity.T.softmax(-1))) / 2


def annealed_temperature(first: float, last: float, step: int, steps: int) -> float:
    """Interpolate along half a cosine: SoftCLIP's temperature in MindEye2.

    Parameters
    ----------
    first, last : float
        Temperatures of the first and the last step, > 0.
    step : int
        0 .. ``steps - 1``.
    steps : int
        Number of steps, at least 1.

    Returns
    -------
    float
        ``last + (first - last) (1 + cos(pi step / (steps - 1))) / 2``.

    Examples
    --------
    >>> [round(annealed_temperature(0.004, 0.008, step, 3), 6) for step in range(3)]
    [0.004, 0.006, 0.008]
    """
    share = step / max(steps - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
