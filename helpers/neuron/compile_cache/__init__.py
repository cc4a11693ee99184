"""The Neuron compile cache: what is in it, what is wrong with it, how to share it, and whether the next run compiles.

    layout, locks         what is there: graphs, their states, and whether a lock is alive
    problems              what is wrong, and its repair
    settings              which place: one for compiler and trainer
    sharing, manifest     graphs to and from a folder or S3, and how they lie there (the place itself: helpers.store)
    fingerprint, watch    will it compile; what compiles; be warm before class
    sample, rehearsal     a cache with every state in it, made up; a cold and a warm start

Importing it needs no Neuron software and no boto3. In a terminal: `python -m helpers.neuron.compile_cache status`.
"""

from helpers.neuron.compile_cache.cache import CompileCache

__all__ = ["CompileCache"]
