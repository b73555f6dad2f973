"""CNN-AV1: partition decisions of an AV1 encoder, predicted from pixels, and given back to it."""
