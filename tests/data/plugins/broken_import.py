"""A plugin whose import fails."""

import a_module_that_is_absent  # noqa: F401
