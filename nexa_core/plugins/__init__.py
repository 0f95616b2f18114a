"""Loads, checks and lists plugins, and binds the names a user wrote to what they provide.

No plugin code runs on the hot path: hooks hand over specs once, the rest is Protocols.
"""

from nexa_core.plugins.building import check_needs, read_options, write_install_line
from nexa_core.plugins.catalog import Listing, Plugins, load_plugins
from nexa_core.plugins.loading import Broken, Plugin
from nexa_core.plugins.registry import Registry

__all__ = [
    "Broken",
    "Listing",
    "Plugin",
    "Plugins",
    "Registry",
    "check_needs",
    "load_plugins",
    "read_options",
    "write_install_line",
]
