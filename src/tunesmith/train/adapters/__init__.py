"""What is trained, and what a run leaves on disk: LoRA, full fine-tuning, checkpoints."""
