"""Unsigned integers in 7-bit groups, lowest first; a set high bit says that another follows."""

from jaxvision.entropy.errors import BitstreamError

LONGEST = 9  # bytes, 63 bits


def write_varint(number: int) -> bytes:
    """The shortest form of `0 <= number < 2^63`."""
    if not 0 <= number < 1 << 7 * LONGEST:
        raise ValueError(f"number={number} lies outside 0 … 2^63 - 1")
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def read_varint(data: bytes, start: int = 0) -> tuple[int, int]:
    """The number at byte `start` and where the next field begins."""
    number = 0
    for place, byte in enumerate(data[start : start + LONGEST]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if byte == 0 and place:  # one number, one form: else two files would say the same
                raise BitstreamError(f"the number at byte {start} is not in its shortest form")
            return number, start + place + 1
    raise BitstreamError(f"the number at byte {start} does not end")
