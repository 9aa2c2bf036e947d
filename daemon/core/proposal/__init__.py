"""What `stockrelay init` proposes: pure functions from a database's catalogue to a configuration file."""
