"""From an encoder's decisions to blocks with labels: the four steps, what checks them, the split."""
