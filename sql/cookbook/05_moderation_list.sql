-- A list to look through: up to 50 clips for each rule, at medium confidence or better.
SELECT r.rule, v.url, c.start_sec, c.end_sec, c.confidence
FROM (VALUES ('emergency'), ('a weapon'), ('somebody smokes')) AS r(rule),
     LATERAL tl_search('demo', r.rule, threshold => 'medium', max_hits => 50) c
JOIN videos v ON v.video_id = c.video_id
ORDER BY r.rule, c.rank, v.url;
