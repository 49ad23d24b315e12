"""The routes, one noun a file. A route imports no other route."""
