"""How fast a model is served: one load over HTTP for ROCmForge and its peers alike.

Plain functions without an orchestrator; the command line and the scheduled runs call the same ones.
"""
