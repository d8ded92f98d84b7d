"""Waveforms (B, N) in, features (B, T, F) out, on whatever device the waveforms lie.

Decided here: framing, mel scale, normalisation and augmentation. Features are the first layer of the model, so a padded
batch must give each utterance exactly what it gets alone.
"""

from asr.features.augment import AugmentConfig, Augmenter
from asr.features.spectral import FeatureConfig, FeatureExtractor, LogMelConfig, MfccConfig

__all__ = ["AugmentConfig", "Augmenter", "FeatureConfig", "FeatureExtractor", "LogMelConfig", "MfccConfig"]
