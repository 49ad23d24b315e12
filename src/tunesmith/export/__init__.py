"""What comes after training: weights and GGUF files for other programs, model cards, and training once more."""
