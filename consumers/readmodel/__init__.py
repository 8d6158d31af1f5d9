"""The read model: what the topics say of past requests, in a database that is asked in SQL."""
