"""An encoder whose search of partitions can be narrowed: libaom, unchanged, linked with a shim."""
