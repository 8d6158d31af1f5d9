"""The review console: cases in a database, and the pages where people decide on them."""
