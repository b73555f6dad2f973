"""The error of every decoder of this package."""


class BitstreamError(ValueError):
    """The bytes are not a stream that the encoder writes: cut off, extended or altered."""
