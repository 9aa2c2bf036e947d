-- One-time initialisation of a channel.
SELECT;
