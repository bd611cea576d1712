"""`mlpipe.toml`: finding the project and reading its settings."""
