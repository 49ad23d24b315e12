"""The requests and answers of OpenAI's API as types: the vocabulary of every room above the store."""
