"""What a job will cost: steps, tokens, money, time and memory."""
