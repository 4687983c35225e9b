"""The content store: blobs by digest, and writes under way."""
