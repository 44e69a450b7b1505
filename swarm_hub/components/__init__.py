"""The components a hub can load; each is set up from its key in configuration.yaml."""
