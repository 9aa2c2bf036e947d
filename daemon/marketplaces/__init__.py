"""The marketplaces: how each is spoken to. Only this package and the simulator know HTTP."""
