"""What several servers share in their database: limits, and who does which work."""
