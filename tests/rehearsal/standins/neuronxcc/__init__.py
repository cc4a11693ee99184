"""Stand-in for the compiler's package: XLA's own CPU compiler is used instead."""

__version__ = "0.0.0+standin"
