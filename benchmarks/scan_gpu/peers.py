"""Runs the peers of `scan_gpu`, each in a process and, if need be, an interpreter of its own."""

import json
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent
PEERS = {"mamba_ssm": "peer_torch.py", "jax-linear-attention": "peer_jla.py"}


def measure_peer(name: str, python: str, shapes: list[str], *, tiny: bool, limit: float) -> dict:
    """What the peer's script measured within `limit` seconds, and said in JSON, line by line."""
    command = [python, str(FOLDER / PEERS[name]), "--shapes", *shapes, *(["--tiny"] * tiny)]
    limit, trouble = max(1.0, limit), None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        said = done.stdout
        if done.returncode:
            trouble = (done.stderr.strip().splitlines() or ["it failed and said nothing"])[-1][:300]
    except subprocess.TimeoutExpired as late:
        said = late.stdout or ""
        said = said.decode() if isinstance(said, bytes) else said  # bytes, whatever was asked for
        trouble = f"it took more than {limit:.0f} s"
    except OSError as error:
        return {"not measured": f"{python}: {error.strerror}"}
    if (record := last_record(said)) is None:
        return {"not measured": trouble or "it printed no result"}
    return record | ({"ended early": trouble} if trouble else {})


def last_record(said: str) -> dict | None:
    """The last line that is a JSON object; libraries print what they like beside it."""
    for line in reversed(said.splitlines()):
        try:
            if isinstance(record := json.loads(line), dict):
                return record
        except ValueError:
            continue
    return None
