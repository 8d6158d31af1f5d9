"""The read model: past requests, read from the topics into a database that answers in SQL."""
