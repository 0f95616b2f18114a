"""A model server that misbehaves on purpose: OpenAI-compatible, seeded, on loopback, with its own log.

It answers like a provider (prose, JSON by schema, tool calls, log-probabilities, usage, batches),
fails like one (`Faults`), has a capacity like one (`Capacity`), and keeps what it did and would have
billed, so that a test can hold a client's books against the server's.
"""

from nexa_core.testing.chaos.answers import Answer, hash_prompt
from nexa_core.testing.chaos.capacity import Capacity
from nexa_core.testing.chaos.faults import Faults
from nexa_core.testing.chaos.hosting import RemoteControl, serve_in_process, serve_in_thread
from nexa_core.testing.chaos.record import Entry, Stats, read_log
from nexa_core.testing.chaos.server import ChaosServer
from nexa_core.testing.chaos.settings import Prices, Settings

__all__ = [
    "Answer",
    "Capacity",
    "ChaosServer",
    "Entry",
    "Faults",
    "Prices",
    "RemoteControl",
    "Settings",
    "Stats",
    "hash_prompt",
    "read_log",
    "serve_in_process",
    "serve_in_thread",
]
