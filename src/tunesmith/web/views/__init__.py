"""What templates show, computed from what the API and the store tell."""
