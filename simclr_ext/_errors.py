"""The package's own errors; importable without torch."""


class BackendUnavailableError(RuntimeError):
    """The compiled operators can neither be loaded nor compiled, or do not serve this device."""
