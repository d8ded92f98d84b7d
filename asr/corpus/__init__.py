"""Corpora: what lies on disk -> utterances -> tar shards -> batches.

In: a recipe's utterances, a JSONL manifest or a folder. Out: `Batch`es of padded waveforms, in an order that seed and
epoch alone decide. Shards and batches need audio libraries and torch: import them from their own files,
`asr.corpus.shards` and `asr.corpus.batches`, so that light commands stay light.
"""
