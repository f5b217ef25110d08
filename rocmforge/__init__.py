"""The command line, which calls the packages api, pipelines and runtime."""
