"""AV1 streams through libaom: encoding, decoding, and the partition tree that the encoder chose."""
