"""Moving from OpenAI's fine-tuning to this one."""
