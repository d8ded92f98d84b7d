"""A model and batches in, a trained model and its history out.

Decided here: loss, updates, schedules, what is saved when. A run is a function of configuration, seed and data: killed at
any moment and resumed, it ends with the same weights, bit for bit on a CPU.
"""
