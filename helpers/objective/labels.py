"""Labels: which tokens of a row are to be predicted."""

IGNORE = -100  # the label that the cross entropy of PyTorch leaves out
