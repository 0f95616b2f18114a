"""The durable state of a run: journals, shards, manifests, events, and the folder that holds them."""
