-- In how many clips a word is said, and how many that is in an hour of video.
SELECT v.url,
       count(*) FILTER (WHERE lower(c.transcription) LIKE '%battery%') AS clips_that_mention_it,
       round(count(*) FILTER (WHERE lower(c.transcription) LIKE '%battery%') / max(v.duration_sec) * 3600, 1)
           AS clips_per_hour
FROM videos v JOIN clips c ON c.video_id = v.video_id
GROUP BY v.url
ORDER BY clips_per_hour DESC, v.url;
