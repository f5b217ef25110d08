"""The command line, which calls the api, pipelines and runtime packages."""
