"""`make torture`: real daemons, a real PostgreSQL and the marketplaces, with faults (docs/testing.md)."""
