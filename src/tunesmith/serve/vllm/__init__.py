"""The engine that has a vLLM server generate."""
