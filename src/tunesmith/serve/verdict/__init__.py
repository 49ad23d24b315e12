"""The process that has base and tuned model answer the same rows at the end of a job."""
