"""The durable state of a run: journals, shards, manifests, events, and their folder."""
