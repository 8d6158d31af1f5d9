"""What a worker does with a request on its tier: the next call, and the records that come of it."""
