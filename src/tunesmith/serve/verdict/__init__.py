"""The process that has base and tuned model answer the same rows after a job."""
