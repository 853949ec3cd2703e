"""The smallest sizes of both reconstructors that keep every part of them."""

from __future__ import annotations

from neuroclips_cli.settings.schema import PerceptionSettings, SemanticsSettings

PR = PerceptionSettings(
    hidden=16,
    inception_hidden=8,
    blocks=1,
    dropout=0.0,
    start_size=2,
    decoder_channels=(8, 8),
    layers_per_block=1,
)
SR = SemanticsSettings(
    hidden=16,
    blocks=1,
    dropout=0.0,
    prior_depth=1,
    prior_heads=2,
    prior_head_dim=8,
    prior_timesteps=10,
    prior_sampling_steps=4,
    prior_samples=3,
    prior_drop_probability=0.2,
    token_pca_rank=2,
)
