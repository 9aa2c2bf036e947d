"""`stockrelay demo`: a sample ERP, both partners and the daemon, on this machine alone."""
