"""A plugin that forgot @hookimpl."""


def register_checks() -> list[object]:
    return []
