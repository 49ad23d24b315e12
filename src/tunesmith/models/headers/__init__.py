"""The headers of weight files, judged before a library believes them."""
