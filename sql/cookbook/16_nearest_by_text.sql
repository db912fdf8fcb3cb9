-- Exact nearest neighbours of a sentence among all clips: no index, recall 1.
SELECT v.url, x.start_sec, x.end_sec, x.embedding_option,
       round(tl_similarity(x.vector, q.vector), 3) AS likeness
FROM vectors x
CROSS JOIN (SELECT tl_embed_text('keep the emergency exit clear') AS vector) q
JOIN videos v ON v.video_id = x.video_id
WHERE x.embedding_scope = 'clip'
ORDER BY likeness DESC, v.url, x.start_sec, x.embedding_option
LIMIT 5;
