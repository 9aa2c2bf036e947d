"""Stockrelay keeps marketplaces' stock in step with an ERP's PostgreSQL database."""

__version__ = "0.1.0"
