"""Classical image codecs behind one protocol, measured alike: what a learned codec must beat."""
