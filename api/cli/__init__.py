"""The command line `lakehouse`: one module per group of commands, each loaded only when it is used."""

try:
    import typer as _typer  # noqa: F401
except ImportError as error:
    raise ImportError(
        "The command line is not installed. Install it with: pip install 'lakehouse[jobs,api]'"
    ) from error
