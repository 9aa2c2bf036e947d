"""Stockrelay keeps marketplaces told of what an ERP's PostgreSQL says may be sold."""

__version__ = "0.1.0"
