"""Bytes in object storage: the bucket, copies of it on this machine, and moving there and back."""
