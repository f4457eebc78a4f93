"""The package's own errors; importable without torch."""


class BackendUnavailableError(RuntimeError):
    """The compiled operators cannot be loaded or compiled, or do not support these views."""
