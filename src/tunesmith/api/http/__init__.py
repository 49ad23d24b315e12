"""What routes share: errors, streams, bodies, idempotency, pages of a list."""
