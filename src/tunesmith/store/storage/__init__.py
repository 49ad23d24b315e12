"""Object storage: the bucket, copies on this machine, moving there and back."""
