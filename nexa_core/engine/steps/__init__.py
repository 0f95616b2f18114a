"""The steps of a pipeline: each a stage between two streams of row batches."""
