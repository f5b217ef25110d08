"""Whether a model is served as fast as before: measured night by night, judged, kept and drawn.

What is measured and how is `pipelines.benchmark`, the same as on the command line.
"""
