-- Adds to every flight the weather that was known when it was to leave, and what is known of the plane.
-- Ordered by all columns, so that equal rows give equal bytes.
SELECT flights_clean.*, temp, wind_speed, precip, visib, pressure, seats, year AS plane_year
FROM flights_clean
LEFT JOIN hours USING (origin, known_at)
LEFT JOIN (SELECT tailnum, seats, year FROM planes) USING (tailnum)
ORDER BY ALL
