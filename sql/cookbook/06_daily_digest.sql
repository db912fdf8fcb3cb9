-- What came in, newest day first: each video with its length in minutes and its summary.
SELECT CAST(v.indexed_at AS DATE) AS day, v.url, round(v.duration_sec / 60, 2) AS minutes, s.title, s.summary
FROM videos v LEFT JOIN summaries s ON s.video_id = v.video_id
ORDER BY day DESC, v.url;
