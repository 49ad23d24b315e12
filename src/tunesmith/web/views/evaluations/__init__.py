"""What pages about evaluations show."""
