"""Sigstore's signatures by public key, as `cosign sign --key` makes them, and the policy that demands them.

`policy`: which images must be signed; `check`: where their signatures are; `claims`: what those say; `keys`: by whom.
Nothing here is used, nor `cryptography` imported, unless the daemon is told of a policy.
"""
