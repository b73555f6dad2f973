"""Processes that a test has started."""


def output(process, *, code=0):
    """What the process has printed, once it has ended with exit status `code`."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"exit status {process.returncode}\n{out}\n{err}"
    return out
