"""Settings of the online commands. This is the only module that reads the environment."""
