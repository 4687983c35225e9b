"""OCI's and Docker's documents as data: digests, references, descriptors, manifests, image and runtime configs.

Pure: nothing here opens a file or a socket. Bytes are validated once, where they enter (`from_json`), and what leaves
is a frozen dataclass. Documents that have a digest keep the bytes they were parsed from.
"""
