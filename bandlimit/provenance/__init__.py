"""Proof of origin: certificates made, followed, made again, listed, signed and described."""
