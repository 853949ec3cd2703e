"""The controls by name: predictions that decode nothing, or as much as can be decoded."""

from __future__ import annotations

QUICK = {
    "nearest-training-clip": "the training clip whose scan correlates most with the test scan",
    "mean-frame": "the mean of all training frames, standing still",
    "frozen-keyframe": "the decoded keyframe, standing still",
    "frozen-frame": "the reconstruction's first frame, standing still",
    "vae": "the ground truth through the VAE: the ceiling of the pixels",
}
GENERATED = {
    "prior-only": "generated without scans: no blurry clip, tokens of the prior unconditioned",
    "film-guided": "generated from the film's own frames: the ceiling of the generator",
    "unclip-true-tokens": "unCLIP's image of a frame's own CLIP tokens, standing still (Fig. 13)",
    "mean-fmri": "reconstructed from the mean training scan, the same for every clip",
    "noise-fmri": "reconstructed from Gaussian noise with every voxel's mean and deviation",
    "repetitions-1": "reconstructed from the first repetition of every test scan alone",
    "repetitions-2": "reconstructed from the mean of the first two repetitions",
    "repetitions-5": "reconstructed from the mean of the first five repetitions",
}
"""These take as long as `neuroclips reconstruct`."""
OF_TRAINING = ("nearest-training-clip", "mean-frame", "mean-fmri")
"""These are made of the subject's training films and scans."""
NAMES = (*QUICK, *GENERATED)


def folder_of(name: str) -> str:
    """Return the folder of a control's clips."""
    return f"reconstruct-control-{name}"
