"""Money: what caps allow, which windows they have, and the book of what is spent and reserved."""
