"""Entropy coding for learned codecs: densities in JAX, integer tables, and bytes.

`gaussian` and `exact` belong to the network, `tables` to the checkpoint, the rest to the file. Three
formats share one pair of functions, `encode_values(values, index, tables)` and
`decode_values(data, index, tables)`: `escape` (ours), `tfc` and `compressai`.
"""
