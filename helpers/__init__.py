"""What the notebooks build on. See README.md for the map; each module runs and is tested without a notebook."""
