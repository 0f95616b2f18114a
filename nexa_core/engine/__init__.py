"""The work of a run: rows through steps, shards through iterations, iterations through a campaign."""
