"""Parts of a transformer layer as training computes them."""
