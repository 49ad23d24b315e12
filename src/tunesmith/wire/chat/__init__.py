"""`/v1/chat/completions`: requests, completions and stored completions."""
