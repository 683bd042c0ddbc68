"""The results as a plain site: what holds, the artifacts behind it, and where each comes from.

HTML alone, opened from a folder, without a server or a network. Everything can be read without
scripts; a small one filters the claims.
"""
