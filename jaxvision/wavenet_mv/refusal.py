"""What a command says of a file that it could not deal with."""

from pathlib import Path

from jaxvision.errors import one_line, out_of_memory

REFUSALS = (OSError, ValueError, MemoryError, RuntimeError)  # for `refusal` to sort out


def refusal(error: Exception, path: Path) -> str:
    """One line on one of `REFUSALS`; an error that is no fault of the file's is raised anew."""
    if isinstance(error, MemoryError) or out_of_memory(error):
        return f"{path}: it takes more memory than there is"
    if isinstance(error, RuntimeError):
        raise error
    return one_line(error, {})
