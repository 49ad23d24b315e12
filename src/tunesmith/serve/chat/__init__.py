"""A request for an answer -> prompt -> engine -> text, stops and tool calls."""
