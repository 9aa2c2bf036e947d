-- What runs as its owner is for those it was granted to (deploy/roles.sql).
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA stockrelay FROM PUBLIC;
