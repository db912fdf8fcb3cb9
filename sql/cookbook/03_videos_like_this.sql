-- Videos like this one: for each other video, how well its best clips match the clips of the first.
WITH pairs AS (
    SELECT a.video_id AS this, b.video_id AS other, a.start_sec,
           max(tl_similarity(a.vector, b.vector)) AS best
    FROM vectors a JOIN vectors b
      ON b.video_id <> a.video_id AND b.embedding_option = a.embedding_option
    WHERE a.embedding_option LIKE 'visual%' AND a.embedding_scope = 'clip' AND b.embedding_scope = 'clip'
    GROUP BY a.video_id, b.video_id, a.start_sec
)
SELECT t.url AS this_video, o.url AS like_it, round(avg(p.best), 3) AS likeness
FROM pairs p JOIN videos t ON t.video_id = p.this JOIN videos o ON o.video_id = p.other
GROUP BY t.url, o.url
ORDER BY this_video, likeness DESC, like_it;
