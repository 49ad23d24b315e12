"""Pages that change while they are looked at: thinned curves, and their streams."""
