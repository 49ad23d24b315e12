"""Any JSON schema -> one of the keywords that a grammar can be made of."""
