"""Published models in an object storage: pushed by one machine, pulled by those that serve."""
