-- Reconcile runs, their chunks, and differences with their lives.
SELECT;
