"""Pages that change while they are looked at: a job's curves, thinned, and the streams that carry them."""
