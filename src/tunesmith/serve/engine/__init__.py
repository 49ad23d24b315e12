"""What generates tokens, independent of where: the protocol, the scheduler, sampling, grammars."""
