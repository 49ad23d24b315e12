"""What pages about keys, usage and the server show."""
