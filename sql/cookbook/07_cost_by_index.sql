-- What is in each index, and what indexing it would cost at 0.042 a minute (see prices.toml for yours).
SELECT v.index_id, count(DISTINCT v.video_id) AS videos, round(sum(v.duration_sec) / 60, 3) AS minutes,
       round(sum(v.duration_sec) / 60 * 0.042, 4) AS price_of_indexing
FROM (SELECT DISTINCT index_id, video_id, duration_sec FROM videos) v
GROUP BY v.index_id
ORDER BY minutes DESC, v.index_id;
