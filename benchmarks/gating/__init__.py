"""GateBench: campaigns played against nexa's own gate and reviewers; see `benchmarks/gate.py`."""
