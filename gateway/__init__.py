"""A sidecar that splits a pipeline's users between control and treatment, safely."""

__version__ = "0.1.0"
