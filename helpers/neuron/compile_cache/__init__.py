"""The Neuron compile cache: what is in it, what is wrong with it, how to share it, and whether the next run compiles.

    layout       what lies in a cache, and in which state     locks        is a lock alive?
    problems     what is wrong, and its repair                settings     one location for compiler and trainer
    store        a folder or S3                               sharing      graphs to it; pull: from it
    fingerprint  what decides a run's graphs                  watch        count compiles while a block runs
    precompile   be warm before class                         browser      the cache in a notebook
    sample       a cache with every state in it, made up

Importing it needs no Neuron software and no boto3. In a terminal: `python -m helpers.neuron.compile_cache status`.
"""

from helpers.neuron.compile_cache.cache import CompileCache

__all__ = ["CompileCache"]
