"""What is true of a model family, for serving and training alike."""
