"""What is trained (LoRA, all weights), and what a run leaves on disk."""
