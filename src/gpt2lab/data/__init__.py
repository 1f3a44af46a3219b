"""Tokens on disk and the order in which they are read: shards, manifest, split, permutation, batches."""
