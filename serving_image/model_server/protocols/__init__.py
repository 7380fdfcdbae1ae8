"""What clients speak: one file a protocol."""
