"""What a training was made of: a card to read, a record to train again from."""
