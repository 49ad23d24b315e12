"""What the check found, as values and in OpenAI's words."""
