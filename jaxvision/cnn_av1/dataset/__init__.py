"""From an encoder's decisions to blocks with labels: four steps, their checks, the split."""
