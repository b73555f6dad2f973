"""Entropy coding for learned codecs: densities in JAX, integer tables, and bytes.

`gaussian` and `exact` belong to the network, `quantize` and `tables` to its checkpoint, the rest to
the file. Three formats share one pair of functions, `encode_values(values, index, tables)` and
`decode_values(data, index, tables)`: `stream` (ours), `tfc` and `compressai`.
"""
