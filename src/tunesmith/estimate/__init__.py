"""What a job will cost before it is started: steps, tokens, money, time and memory."""
