"""The engine that lets a vLLM server generate."""
