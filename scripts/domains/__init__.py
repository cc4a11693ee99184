"""How the built-in domains in data/ were made, from botocore's own service models."""
