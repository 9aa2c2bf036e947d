"""What a machine that runs the daemon sees: its service manager, its command line."""
