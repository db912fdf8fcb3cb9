-- Which of our topics the library covers: up to 50 clips and their minutes for each, 0 where nothing matches.
SELECT t.topic, count(c.video_id) AS clips, count(DISTINCT c.video_id) AS videos,
       round(coalesce(sum(c.end_sec - c.start_sec), 0) / 60, 2) AS minutes
FROM (VALUES ('safety helmet'), ('tomato soup'), ('electric bicycle'), ('quantum physics')) AS t(topic)
LEFT JOIN LATERAL tl_search('demo', t.topic, threshold => 'medium', max_hits => 50) c ON true
GROUP BY t.topic
ORDER BY clips DESC, t.topic;
