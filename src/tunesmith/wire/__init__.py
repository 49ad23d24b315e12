"""The requests and answers of OpenAI's API as types, one file a noun."""
