-- How often each chapter is watched. Here `views` is made up: use the log of your player.
WITH views AS (
    SELECT v.video_id, m.tens * 10.0 AS position_sec
    FROM videos v CROSS JOIN (VALUES (0), (1), (1), (2), (3)) AS m(tens)
)
SELECT v.url, c.chapter_number, c.title, count(w.position_sec) AS views
FROM chapters c
JOIN videos v ON v.video_id = c.video_id
LEFT JOIN views w ON w.video_id = c.video_id AND w.position_sec >= c.start_sec AND w.position_sec < c.end_sec
GROUP BY v.url, c.chapter_number, c.title
ORDER BY v.url, c.chapter_number;
