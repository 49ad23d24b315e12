"""From OpenAI's fine-tuning to this one: what was exported, and how to train it again."""
