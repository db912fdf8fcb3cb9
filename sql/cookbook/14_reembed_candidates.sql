-- After a model change: how many videos still have vectors of another model, and how many minutes that is.
SELECT x.model, count(DISTINCT x.video_id) AS videos, round(sum(v.duration_sec) / 60, 2) AS minutes
FROM (SELECT DISTINCT video_id, model FROM vectors) x
JOIN (SELECT DISTINCT video_id, duration_sec FROM videos) v ON v.video_id = x.video_id
WHERE x.model <> 'marengo3.0'
GROUP BY x.model
ORDER BY minutes DESC, x.model;
