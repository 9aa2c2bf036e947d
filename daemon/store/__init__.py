"""The only place that speaks to PostgreSQL: every statement stands in a named query of a .sql file."""
