"""What machines ask the daemon: is it alive, is it ready, how does it stand."""
