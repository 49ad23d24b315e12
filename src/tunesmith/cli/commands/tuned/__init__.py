"""Commands on one tuned model's files: export, its card, and training it again."""
