"""The commands that have a module of their own; `daemon.cli` lists them all."""
