"""`make bench`: ramfw beside its peers, in namespaces of its own."""
