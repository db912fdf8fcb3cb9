-- How often a word is said, per hour of video: by video, loudest first.
SELECT v.url,
       count(*) FILTER (WHERE lower(c.transcription) LIKE '%battery%') AS clips_that_mention_it,
       round(count(*) FILTER (WHERE lower(c.transcription) LIKE '%battery%') / max(v.duration_sec) * 3600, 1)
           AS mentions_per_hour
FROM videos v JOIN clips c ON c.video_id = v.video_id
GROUP BY v.url
ORDER BY mentions_per_hour DESC, v.url;
