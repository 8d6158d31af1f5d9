"""The runtime: polling, offsets, transactions and partitions, the same for every stage."""
