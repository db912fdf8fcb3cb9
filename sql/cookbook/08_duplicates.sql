-- Pairs of clips from different videos that look the same: re-uploads, shared intros, stolen scenes.
SELECT x.url AS one, a.start_sec AS at_sec, y.url AS other, b.start_sec AS other_sec,
       round(tl_similarity(a.vector, b.vector), 3) AS likeness
FROM vectors a
JOIN vectors b ON a.video_id < b.video_id AND a.embedding_option = b.embedding_option
JOIN videos x ON x.video_id = a.video_id
JOIN videos y ON y.video_id = b.video_id
WHERE a.embedding_option LIKE 'visual%' AND a.embedding_scope = 'clip' AND b.embedding_scope = 'clip'
  AND tl_similarity(a.vector, b.vector) > 0.95
ORDER BY likeness DESC, one, at_sec, other, other_sec;
