"""What a trained codec is worth, from files that it wrote: tables, curves, pictures, a checklist."""
