"""What a codec is worth, by files that it wrote: tables, curves, pictures, a checklist."""
