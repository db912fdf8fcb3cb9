SELECT m.*
FROM {{ ref("moments") }} m
JOIN {{ ref("videos") }} v USING (id)
WHERE m.start_sec < 0 OR m.end_sec > v.duration_sec + 1 OR m.start_sec >= m.end_sec
