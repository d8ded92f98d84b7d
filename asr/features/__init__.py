"""Waveforms (B, N) or stored frames (B, T, F) in, features (B, T, F) out, on whatever device they lie.

Decided here: framing, mel scale, normalisation and augmentation. Features are the first layer of the model, so a padded
batch must give each utterance exactly what it gets alone.
"""

from asr.features.augment import AugmentConfig, Augmenter
from asr.features.extractor import FeatureConfig, FeatureExtractor
from asr.features.spectral import LogMelConfig, MfccConfig
from asr.features.stored import StoredConfig

__all__ = [
    "AugmentConfig",
    "Augmenter",
    "FeatureConfig",
    "FeatureExtractor",
    "LogMelConfig",
    "MfccConfig",
    "StoredConfig",
]
