"""Graders as OpenAI describes them: read, checked and applied."""
