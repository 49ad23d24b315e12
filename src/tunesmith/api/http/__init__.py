"""What routes share: errors, streams, multipart bodies, idempotency, pages of a list."""
