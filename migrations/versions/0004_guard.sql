-- Zeroes that are held until a person or the data lets them go.
SELECT;
