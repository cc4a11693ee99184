"""What a run leaves behind: its folder, its results, its stages, the machine that made them."""
