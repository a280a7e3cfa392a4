"""`make bench`: hello beside its peers, on one core."""
