"""Every setting by section: its type, limits or allowed words, unit and meaning.

One frozen dataclass is one ``[section]`` of ``neuroclips.toml``. The values, with the source of
each, are in ``profiles/*.toml``; :mod:`neuroclips_cli.settings.field` has the marks used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from neuroclips_cli.settings.field import Doc, Range, Unit, Words

Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, exclusive=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Seconds = Annotated[Positive, Unit("s")]
Pixels = Annotated[Count, Unit("pixels")]
PixelsOrZero = Annotated[CountOrZero, Unit("pixels")]

Profile = Literal["tiny", "paper", "compact"]
Variant = Literal["paper", "released"]
Optimizer = Literal["adamw", "adafactor"]
SimulatedLayout = Literal["cc2017", "fmriprep", "hcp7t", "algonauts", "cinebrain", "bold-moments"]
PROFILES: tuple[str, ...] = get_args(Profile)
VARIANTS: tuple[str, ...] = get_args(Variant)


@dataclass(frozen=True)
class RunSettings:
    """Where to work, for which subject, on what data and device."""

    profile: Annotated[
        Profile, Doc("Set of values: tiny on two CPU cores, paper as published, compact in 24 GB.")
    ] = "tiny"
    variant: Annotated[
        Variant, Doc("The method as in the paper, or as in the authors' released code.")
    ] = "paper"
    subject: Annotated[int, Range(1, 999_999), Doc("Number of the subject; 1, 01 or sub-01.")] = 1
    subjects: Annotated[
        tuple[Annotated[int, Range(1, 999_999)], ...],
        Doc("Subjects that one decoder is trained on together; empty: run.subject alone."),
    ] = ()
    decoder: Annotated[
        str,
        Doc(
            "Folder in run.workdir whose trained decoder is taken, such as pool-01-02-03; empty: "
            "that of run.subjects, or else the subject's own."
        ),
    ] = ""
    workdir: Annotated[str, Doc("Folder of all results.")] = "runs"
    dataset: Annotated[str, Doc("Folder of the data set.")] = ""
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        Doc("Device that networks run on; auto: a GPU if there is one."),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "bfloat16", "float32", "highest"],
        Doc(
            "Arithmetic of the networks; auto: bfloat16 where the device has it, "
            "highest: float32 without TF32."
        ),
    ] = "auto"
    seed: Annotated[int, Range(0, 2**32 - 1), Doc("Seed of all random numbers.")] = 0


@dataclass(frozen=True)
class DataSettings:
    """Conventions of the fMRI data and the films (paper 4.1)."""

    tr_s: Annotated[Seconds, Doc("Repetition time (TR): time between two volumes.")]
    delay_s: Annotated[
        NonNegative, Unit("s"), Doc("Hemodynamic delay between a film and the response to it.")
    ]
    clip_s: Annotated[Seconds, Doc("Length of the film clip that belongs to one scan.")]
    frames_per_clip: Annotated[Count, Doc("Frames kept of one clip.")]
    frame_size: Annotated[Pixels, Doc("Width and height of the frames.")]
    trailing_volumes: Annotated[CountOrZero, Doc("Volumes recorded after the film ended.")]
    detrend_order: Annotated[
        int, Range(0, 10), Doc("Order of the polynomial removed from every run.")
    ]
    selection_p: Annotated[
        Fraction, Doc("P of the voxels' reproducibility test, Bonferroni corrected.")
    ]
    mask: Annotated[
        str, Doc("CIFTI, GIFTI or volume that limits the selection; empty: all that is read.")
    ]
    regions: Annotated[
        tuple[str, ...], Doc("Names of the mask's labels to keep; empty: every named label.")
    ]
    parcels: Annotated[
        str,
        Doc(
            "Label file of an atlas: means over its parcels stand for the voxels; empty: none. "
            "Of unlike brains, too, they are one space."
        ),
    ]
    common: Annotated[
        tuple[Annotated[int, Range(1, 999_999)], ...],
        Doc(
            "Subjects whose voxels in common are taken, instead of the subject's own; they have "
            "to be preprocessed by themselves first. Empty: the subject's own."
        ),
    ]
    space: Annotated[
        str,
        Doc("Which copies of the runs to read, such as raw; empty: MNI before others, raw last."),
    ]
    layout: Annotated[
        Literal["auto", "cc2017", "fmriprep", "hcp7t", "algonauts", "cinebrain", "bold-moments"],
        Doc("How the data set's folders are laid out; auto: as their names tell."),
    ] = "auto"
    structures: Annotated[
        tuple[str, ...],
        Doc(
            "Structures of CIFTI runs that are read, as CIFTI calls them: cortex, hippocampus, "
            "thalamus_left; subcortex: all but the cortex; all."
        ),
    ] = ("cortex",)
    runs: Annotated[
        str, Doc("Run table that lists the runs, instead of what is found in the data set.")
    ] = ""
    raw: Annotated[
        str, Doc("Raw BIDS tree with the events, where it lies outside the data set.")
    ] = ""
    films: Annotated[str, Doc("Folder of the films, where they lie outside the data set.")] = ""
    task: Annotated[str, Doc("BIDS tasks whose runs are read, as a,b; empty: every one.")] = ""
    session: Annotated[str, Doc("BIDS sessions whose runs are read, as 1,2; empty: every one.")] = (
        ""
    )
    confounds: Annotated[
        str,
        Doc(
            "Strategy by which confounds are regressed out of every run: motion, simple, scrubbing "
            "or compcor; empty: none are."
        ),
    ] = ""
    test_films: Annotated[
        tuple[str, ...],
        Doc(
            "Patterns of the films or BIDS tasks that are for testing, such as *s06*; empty: those "
            "that the data set calls test."
        ),
    ] = ()
    window: Annotated[
        Count, Unit("volumes"), Doc("Volumes per clip, centered on the delayed onset.")
    ] = 1
    interpolation: Annotated[
        Literal["cubic", "linear", "nearest"],
        Doc("How a response is read where its time falls between two volumes."),
    ] = "cubic"
    standardize: Annotated[
        Literal["stretch", "run"],
        Doc("What a voxel is detrended and standardized over: one film's responses, or the run."),
    ] = "stretch"
    selection: Annotated[
        Literal["reproducibility", "atlas", "test-reliability", "encoding", "intersubject"],
        Doc(
            "What voxels are chosen by: repetitions of all training films, all of the mask, "
            "repetitions of some training films, an encoding model, or other subjects."
        ),
    ] = "reproducibility"
    other_subjects: Annotated[
        tuple[Annotated[int, Range(1, 999999)], ...],
        Doc("Subjects that the selection by other subjects compares with."),
    ] = ()


@dataclass(frozen=True)
class SimulateSettings:
    """The synthetic dataset and its simulated scanner."""

    subjects: Annotated[Count, Doc("Simulated subjects.")]
    train_segments: Annotated[Count, Doc("Training segments.")]
    test_segments: Annotated[Count, Doc("Test segments.")]
    clips_per_segment: Annotated[Count, Doc("Clips of a training segment.")]
    test_clips_per_segment: Annotated[Count, Doc("Clips of a test segment.")]
    train_repetitions: Annotated[Count, Doc("Repetitions of a training segment.")]
    test_repetitions: Annotated[Count, Doc("Repetitions of a test segment.")]
    grayordinates: Annotated[
        Literal["small", "91k"],
        Doc("Layout of the brain: small, or 91k for the 91282 grayordinates of the HCP."),
    ]
    reliability: Annotated[
        float,
        Range(0, 0.99),
        Doc("Median correlation of two repetitions over the responding vertices."),
    ]
    noise_scale: Annotated[NonNegative, Doc("Factor on the noise; 2.0 is twice the noise.")]
    shared_noise: Annotated[
        NonNegative,
        Doc("Noise that vertices of like tuning share: its variance, in units of the responses'."),
    ]
    signal_scale: Annotated[
        NonNegative, Doc("Factor on the response; 0.0 is a brain that does not respond.")
    ]
    stimulus_size: Annotated[Pixels, Doc("Width and height of the films written.")]
    shared_topography: Annotated[
        Fraction,
        Doc("Share of the responding vertices that all subjects have in common with subject 1."),
    ]
    tuning_difference: Annotated[
        Fraction,
        Doc("How much a common vertex differs from subject 1's: 0.0 not at all, 1.0 entirely."),
    ]
    gain_spread: Annotated[
        NonNegative, Doc("Spread of the subjects' gain, a deviation of its logarithm.")
    ]
    noise_spread: Annotated[
        NonNegative, Doc("Spread of the subjects' noise, a deviation of its logarithm.")
    ]
    seen_by_all: Annotated[Fraction, Doc("Share of the training films that every subject saw.")]
    seen_by_some: Annotated[
        Fraction,
        Doc("Share that half of the subjects saw, at least two; the rest is seen by one each."),
    ]
    # With a default: data sets were simulated before these existed.
    layout: Annotated[SimulatedLayout, Doc("Whose folders and names the data set has.")] = "cc2017"
    files: Annotated[
        Literal["cifti", "gifti", "volume"],
        Doc("Kind of the runs' files: dense series, hemisphere pairs, or volumes with a mask."),
    ] = "cifti"
    tr_s: Annotated[
        NonNegative, Unit("s"), Doc("Time between two simulated volumes; 0: the layout's own.")
    ] = 0.0


@dataclass(frozen=True)
class BackboneSettings:
    """Frozen networks: a hub id, a local folder, or ``assets:<name>`` for the embedded ones."""

    vae: Annotated[str, Doc("Stable Diffusion's VAE, of blurry clips and generated clips.")]
    keyframe_vae: Annotated[str, Doc("VAE that decodes keyframes.")]
    clip: Annotated[str, Doc("OpenCLIP image and text model, whose image tokens are decoded.")]
    projector: Annotated[str, Doc("Map from image tokens to the text space, for Reftm.")]
    unclip: Annotated[str, Doc("unCLIP model that makes keyframes from image tokens.")]
    captioner: Annotated[str, Doc("BLIP-2 model that captions keyframes.")]
    git: Annotated[str, Doc("GIT model, the captioner that reads decoded tokens.")]
    git_tokens: Annotated[str, Doc("Map from decoded tokens to GIT's image features.")]
    text_encoder: Annotated[str, Doc("CLIP text encoder of the video model.")]
    tokenizer: Annotated[str, Doc("CLIP tokenizer of the video model.")]
    scene_unet: Annotated[str, Doc("Stable Diffusion UNet of the video model.")]
    domain_adapter: Annotated[str, Doc("LoRA of AnimateDiff's training domain; empty: none.")]
    motion_adapter: Annotated[str, Doc("AnimateDiff motion adapter.")]
    sparsectrl: Annotated[str, Doc("SparseCtrl network with RGB condition.")]
    tokens: Annotated[Count, Doc("Image tokens of one frame.")]
    token_dim: Annotated[Count, Doc("Width of an image token.")]
    embed_dim: Annotated[Count, Doc("Width of the space that images and texts share.")]
    convnext: Annotated[
        str, Doc('ConvNeXt-XL checkpoint (VICRegL), only for train_pr.contrast "convnext".')
    ] = ""
    distilled_lora: Annotated[
        str, Doc("LoRA that lets the video model do with few steps; empty: none.")
    ] = ""
    token_denoiser: Annotated[
        str, Doc("Network that makes pictures' tokens of decoded ones, before unCLIP; empty: none.")
    ] = ""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What the trainings of both reconstructors have in common."""

    learning_rate: Annotated[Positive, Doc("Peak of the OneCycle schedule.")]
    weight_decay: Annotated[NonNegative, Doc("Weight decay of AdamW.")]
    ridge_weight_decay: Annotated[NonNegative, Doc("Weight decay of AdamW on the ridge layer.")]
    noise: Annotated[
        NonNegative, Doc("Standard deviation of Gaussian noise added to training scans.")
    ]
    repetition_mix_prob: Annotated[
        Fraction, Doc("Probability that a training sample combines the repetitions of its clip.")
    ]
    validation_segments: Annotated[
        tuple[Count, ...],
        Doc("Training segments held out whole, for choosing the checkpoint."),
    ]
    checkpoint_every: Annotated[Count, Unit("epochs"), Doc("Epochs between two checkpoints.")]
    optimizer: Annotated[
        Optimizer,
        Doc("The optimizer; adafactor keeps no first moment (docs/how-to/low-memory.md)."),
    ] = "adamw"
    subject_optimizer: Annotated[
        Optimizer,
        Doc(
            "The optimizer of several subjects' first layers; adafactor keeps the memory of a pool "
            "near one subject's (docs/how-to/low-memory.md)."
        ),
    ] = "adamw"
    activation_checkpointing: Annotated[
        bool,
        Doc(
            "Compute activations again in the backward pass: less memory, longer steps, the same "
            "results (docs/how-to/low-memory.md)."
        ),
    ] = False
    micro_batch_size: Annotated[
        CountOrZero,
        Doc("Clips of a batch in the network at a time, 0: all; less memory, the same step."),
    ] = 0
    subject_dropout: Annotated[
        Fraction,
        Doc(
            "Probability that a row of several subjects' batch goes through the average subject's "
            "first layers, where the subjects share a space; 0: no average subject."
        ),
    ] = 0.1


@dataclass(frozen=True)
class PerceptionSettings:
    """Sizes of the Perception Reconstructor (paper 3.1, B.1)."""

    hidden: Annotated[Count, Doc("Width after the ridge layer.")]
    inception_hidden: Annotated[Count, Doc("Hidden width of the inception extension's MLP.")]
    blocks: Annotated[Count, Doc("Residual blocks of the MLP backbone.")]
    dropout: Annotated[Fraction, Doc("Dropout of the MLP backbone.")]
    start_size: Annotated[Count, Doc("Height and width of the latent before upsampling.")]
    decoder_channels: Annotated[
        tuple[Count, ...], Doc("Channels of the temporal upsampling blocks.")
    ]
    layers_per_block: Annotated[Count, Doc("Residual layers of one upsampling block.")]
    # Words with a default: run folders made before they existed are of that kind.
    network: Annotated[
        Literal["paper", "published"],
        Doc("Modules of B.1 and Eq. 2, or published: those of the released code."),
    ] = "paper"
    backbone: Annotated[
        Literal["mixing", "released"],
        Doc("The MLP mixes channels (3.1), or released: it adds a constant."),
    ] = "mixing"
    attention: Annotated[
        Literal["clip", "batch"],
        Doc("Temporal attention within a clip (3.1), or over all frames of a batch."),
    ] = "clip"
    frame_size: Annotated[
        PixelsOrZero, Doc("Size of the frames that it learns; 0: data.frame_size.")
    ] = 0


@dataclass(frozen=True, kw_only=True)
class TrainPRSettings(TrainingSettings):
    """Training of the Perception Reconstructor (paper A)."""

    epochs: Annotated[Count, Doc("Epochs of training.")]
    batch_size: Annotated[Count, Unit("clips"), Doc("Clips of one optimizer step.")]
    contrast_weight: Annotated[NonNegative, Doc("Weight of the contrast in Eq. 1.")]
    temperature: Annotated[Positive, Doc("Temperature of the contrast.")]
    contrast: Annotated[
        Literal["frames", "convnext"],
        Doc("Contrast of the frames of a clip (Eq. 1), or convnext: of an auxiliary map."),
    ] = "frames"


@dataclass(frozen=True)
class SemanticsSettings:
    """Sizes of the Semantics Reconstructor and its diffusion prior (paper 3.2, B.2)."""

    hidden: Annotated[Count, Doc("Width after the ridge layer.")]
    blocks: Annotated[Count, Doc("Residual blocks of the MLP backbone.")]
    dropout: Annotated[Fraction, Doc("Dropout of the MLP backbone.")]
    prior_depth: Annotated[Count, Doc("Transformer layers of the diffusion prior.")]
    prior_heads: Annotated[Count, Doc("Attention heads of the diffusion prior.")]
    prior_head_dim: Annotated[Count, Doc("Width of one attention head.")]
    prior_timesteps: Annotated[Count, Doc("Diffusion steps in training.")]
    prior_sampling_steps: Annotated[Count, Doc("Diffusion steps in sampling.")]
    prior_samples: Annotated[Count, Doc("Samples of the prior that are averaged.")]
    prior_drop_probability: Annotated[
        Fraction, Doc("Probability that the condition of a training sample is dropped.")
    ]
    token_pca_rank: Annotated[
        CountOrZero,
        Doc("Principal components of the training tokens kept in decoded tokens; 0: all."),
    ]
    backbone: Annotated[
        Literal["mixing", "released"],
        Doc("The MLP mixes channels (3.2), or released: it adds a constant."),
    ] = "mixing"
    token_space: Annotated[
        Literal["published", "standard"],
        Doc(
            "What CLIP sees of a frame x in 0 to 1: standard x, or published (x + 1) / 2, which "
            "the released checkpoints were made with."
        ),
    ] = "standard"
    prior_condition: Annotated[
        Literal["backbone", "contrastive"],
        Doc("Condition of the prior: tokens of the backbone or of the contrastive head."),
    ] = "backbone"
    decoded_tokens: Annotated[
        Literal["prior", "backbone"],
        Doc("Image tokens that keyframes are made of: the prior's, or those it is conditioned on."),
    ] = "prior"
    prior_norm_epsilon: Annotated[
        Positive, Doc("Epsilon of the norms behind the prior's attention.")
    ] = 1e-5
    head_rank: Annotated[
        CountOrZero,
        Doc(
            "Rank of the layer to all tokens in two factors, 0: one layer "
            "(docs/how-to/low-memory.md)."
        ),
    ] = 0


@dataclass(frozen=True)
class TrainProjectorSettings:
    """Training of Reftm's projector on captioned images (paper B.2, Table 3)."""

    epochs: Annotated[Count, Doc("Epochs of training.")]
    batch_size: Annotated[Count, Unit("images"), Doc("Images of one optimizer step.")]
    learning_rate: Annotated[Positive, Doc("Peak of the OneCycle schedule.")]
    weight_decay: Annotated[NonNegative, Doc("Weight decay of AdamW.")]
    temperature: Annotated[
        Positive, Doc("Temperature of the contrast between images and captions.")
    ]
    validation_share: Annotated[
        Fraction, Doc("Fraction of the images that retrieval is measured on.")
    ]
    retrieval_part: Annotated[
        int, Range(2), Unit("images"), Doc("Images that one retrieval chooses among.")
    ]


@dataclass(frozen=True, kw_only=True)
class TrainSRSettings(TrainingSettings):
    """Training of the Semantics Reconstructor in two phases (paper A)."""

    contrastive_epochs: Annotated[Count, Doc("Epochs of phase 1, contrastive training.")]
    contrastive_batch_size: Annotated[
        Count, Unit("clips"), Doc("Clips of one optimizer step in phase 1.")
    ]
    prior_epochs: Annotated[Count, Doc("Epochs of phase 2, training of the prior.")]
    prior_batch_size: Annotated[
        Count, Unit("clips"), Doc("Clips of one optimizer step in phase 2.")
    ]
    mixco_beta: Annotated[
        Positive, Doc("Parameter b of Beta(b, b), the distribution of BiMixCo's coefficient.")
    ]
    temperature: Annotated[Positive, Doc("Temperature of BiMixCo.")]
    prior_weight: Annotated[NonNegative, Doc("Weight delta of the prior's loss in Eq. 4.")]
    reftm_weight: Annotated[NonNegative, Doc("Weight mu of Reftm in Eq. 4.")]
    noise: Annotated[
        NonNegative,
        Doc(
            "Standard deviation of Gaussian noise added to training scans (or to the components "
            "of a ridge layer solved in closed form)."
        ),
    ]
    ridge_closed_form: Annotated[
        bool, Doc("Solve the ridge layer in closed form (Eq. 3), cross-fitted over segments.")
    ]
    closed_form_keeps: Annotated[
        Literal["ridge", "tokens"],
        Doc("What of the closed form does not learn: the ridge layer, or all up to the tokens."),
    ] = "ridge"
    contrastive_reftm_weight: Annotated[NonNegative, Doc("Weight of Reftm in phase 1.")] = 0.0
    reftm_temperature: Annotated[NonNegative, Doc("Temperature of Reftm; 0: that of BiMixCo.")] = (
        0.0
    )
    prior_contrast: Annotated[
        Literal["bimixco", "softclip"],
        Doc("Contrast of phase 2; softclip: SoftCLIP with an annealed temperature."),
    ] = "bimixco"
    prior_trains: Annotated[
        Literal["all", "prior"],
        Doc("What phase 2 trains: all of the network, or the prior with the rest frozen."),
    ] = "all"
    elementwise_checkpointing: Annotated[
        bool,
        Doc(
            "Compute the prior's norms, gates, queries and keys again in the backward pass, and "
            "keep all else: less memory at 2 % more operations, the same results."
        ),
    ] = False


@dataclass(frozen=True)
class ReconstructSettings:
    """Inference with alpha, beta and gamma guidance (paper 3.3, A)."""

    blur_init: Annotated[
        str,
        Words("eq5", "released", "strength:<x>"),
        Doc(
            "How the blurry clip starts the video: Eq. 5, released: noised to the first sampled "
            "step, or strength:<x>: noised to the fraction x of the process."
        ),
    ]
    theta: Annotated[Fraction, Doc("Fraction of the forward process in Eq. 5.")]
    steps: Annotated[Count, Doc("Denoising steps of the video.")]
    guidance_scale: Annotated[NonNegative, Doc("Classifier-free guidance of the video.")]
    control_scale: Annotated[NonNegative, Doc("Strength of the keyframe's control (SparseCtrl).")]
    guide_keyframe: Annotated[
        bool, Doc("Whether guidance strengthens the keyframe too, not the text alone.")
    ]
    hold_keyframe: Annotated[
        bool,
        Doc(
            "Whether a clip shows its keyframe: what it misses of it is added to all frames, in "
            "every step."
        ),
    ]
    frames: Annotated[Count, Doc("Frames generated for one clip.")]
    fps: Annotated[Count, Unit("frames per second"), Doc("Frame rate of the generated clip.")]
    keyframe_steps: Annotated[Count, Doc("Sampling steps of unCLIP.")]
    keyframe_guidance_scale: Annotated[NonNegative, Doc("Classifier-free guidance of unCLIP.")]
    keyframe_candidates: Annotated[
        Count,
        Doc(
            "Keyframes drawn for a clip; the one whose tokens are most like the decoded ones stays."
        ),
    ]
    keyframe_start: Annotated[
        str,
        Words("blurry:<x>", "noise"),
        Doc(
            "What unCLIP starts from: blurry:<x>, the first blurry frame noised to the fraction "
            "x of the process, or noise."
        ),
    ]
    keyframe_contrast: Annotated[
        Literal["auto", "none", "released"],
        Doc(
            "Pixels of a decoded keyframe d: none 0.5 d + 0.5, released 0.8 d + 0.2, auto: "
            "released for published tokens, else none."
        ),
    ]
    prompt_suffix: Annotated[str, Doc("Text put after the caption.")]
    negative_prompt: Annotated[str, Doc("Negative prompt of the video.")]
    prompt_without_keyframe: Annotated[str, Doc("Prompt where there is no keyframe.")]
    captioner: Annotated[
        Literal["blip2", "git"],
        Doc("Captioner: blip2 reads keyframes, git the decoded tokens."),
    ]
    batch_size: Annotated[
        CountOrZero,
        Unit("clips"),
        Doc("Clips generated together; 0: as many as the GPU holds, 4 on a CPU."),
    ]
    fast: Annotated[
        bool,
        Doc("Half the steps with a multistep solver (its cost: docs/results/performance.md)."),
    ]
    solver: Annotated[
        Literal["ddim", "dpm", "euler", "lcm"],
        Doc(
            "Solver of the video's steps: ddim, dpm (DPM-Solver++), or, for distilled weights, "
            "euler (AnimateDiff-Lightning) or lcm (AnimateLCM, LCM LoRAs)."
        ),
    ] = "ddim"
    distilled_scale: Annotated[Fraction, Doc("Strength of backbones.distilled_lora.")] = 1.0
    compile: Annotated[
        bool,
        Doc("Compile the denoising networks' blocks by torch.compile; not measured on CUDA."),
    ] = False
    offload: Annotated[
        bool,
        Doc("Keep idle networks in the CPU's memory (docs/how-to/low-memory.md)."),
    ] = False


@dataclass(frozen=True)
class FuseSettings:
    """Multi-fMRI fusion (paper 3.4)."""

    max_scans: Annotated[Count, Unit("scans"), Doc("Longest chain of scans that are fused.")]
    hidden: Annotated[Count, Doc("Hidden width of the matcher's MLP.")]
    epochs: Annotated[Count, Doc("Epochs of the matcher.")]
    learning_rate: Annotated[Positive, Doc("Learning rate of the matcher.")]
    threshold: Annotated[
        Fraction, Doc("Probability above which neighboring scans are of one scene.")
    ]


@dataclass(frozen=True)
class EvaluateSettings:
    """How to measure (paper 4.3): a protocol, and what of it is changed."""

    fps: Annotated[
        CountOrZero,
        Unit("frames per second"),
        Doc("Frame rate at which clips are compared; 0: the protocol's."),
    ]
    size: Annotated[PixelsOrZero, Doc("Size at which clips are compared; 0: the protocol's.")]
    ways: Annotated[
        tuple[Annotated[int, Range(2)], ...], Doc("N of the N-way identification accuracies.")
    ]
    retrieval_part: Annotated[
        int, Range(2), Unit("clips"), Doc("Clips that one retrieval chooses among.")
    ]
    bootstrap_samples: Annotated[Count, Doc("Resamples behind the 95 % confidence intervals.")]
    shuffles: Annotated[CountOrZero, Doc("Re-pairings of the shuffled control.")]
    batch_size: Annotated[Count, Unit("clips"), Doc("Clips classified together.")]
    protocol: Annotated[
        Literal[
            "auto",
            "standard",
            "synthetic",
            "neuroclips",
            "mindvideo",
            "mind-animator",
            "neurons",
        ],
        Doc(
            "Evaluation protocol (docs/reference/protocols.md); auto: standard, or synthetic "
            "on films of simulate."
        ),
    ]
    image_classifier: Annotated[str, Doc("Classifier of frames; empty: the protocol's.")]
    video_classifier: Annotated[str, Doc("Classifier of clips; empty: the protocol's.")]
    clip: Annotated[str, Doc("CLIP of the CLIP metrics; empty: the protocol's.")]
    # With a default: run folders made before they existed were evaluated so.
    monte_carlo: Annotated[
        CountOrZero,
        Doc("Draws of the sampled N-way estimate beside the exact value; 0: none."),
    ] = 0
    extra_metrics: Annotated[
        tuple[Literal["epe", "lpips"], ...],
        Doc("Further metrics, with needs of their own: epe (OpenCV), lpips (torchmetrics)."),
    ] = ()
    perceptual: Annotated[str, Doc("torchvision's AlexNet checkpoint, for lpips.")] = ""
