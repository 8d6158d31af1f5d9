"""The routing policy: the table, how it is read, checked and explained."""
