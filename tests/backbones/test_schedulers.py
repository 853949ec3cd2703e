from __future__ import annotations

from diffusers import EulerDiscreteScheduler

from neuroclips_cli.backbones.schedulers import load_scheduler
from neuroclips_cli.generation.keyframe import keyframe_scheduler


def test_a_schedule_beside_the_weights_is_taken(tmp_path):
    EulerDiscreteScheduler(prediction_type="v_prediction").save_pretrained(tmp_path)
    loaded = load_scheduler(str(tmp_path), keyframe_scheduler())
    assert loaded.config.prediction_type == "v_prediction"


def test_without_one_the_published_schedule_is_taken(tmp_path):
    default = keyframe_scheduler()
    assert load_scheduler(str(tmp_path), default) is default
    assert default.config.prediction_type == "epsilon"
