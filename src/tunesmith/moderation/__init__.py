"""Texts moderated in OpenAI's moderation categories, offline or by a service."""
