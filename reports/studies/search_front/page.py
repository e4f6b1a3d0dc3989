"""The page."""


def render(results):
    return ""
