-- Words and vectors together: reciprocal rank fusion of a search and of the nearest vectors.
WITH question AS (SELECT 'a red object on a black background' AS words,
                         tl_embed_text('a red object on a black background') AS vector),
by_words AS (
    SELECT c.video_id, c.start_sec, c.rank
    FROM question q, LATERAL tl_search('demo', q.words, max_hits => 20) c
),
by_vector AS (
    SELECT v.video_id, v.start_sec,
           row_number() OVER (ORDER BY tl_similarity(v.vector, q.vector) DESC, v.video_id, v.start_sec) AS rank
    FROM vectors v CROSS JOIN question q
    WHERE v.embedding_option LIKE 'visual%' AND v.embedding_scope = 'clip'
)
SELECT f.url, f.start_sec, round(sum(1.0 / (60 + f.rank)), 5) AS fused
FROM (SELECT v.url, w.start_sec, w.rank FROM by_words w JOIN videos v ON v.video_id = w.video_id
      UNION ALL
      SELECT v.url, n.start_sec, n.rank FROM by_vector n JOIN videos v ON v.video_id = n.video_id
      WHERE n.rank <= 20) f
GROUP BY f.url, f.start_sec
ORDER BY fused DESC, f.url, f.start_sec
LIMIT 10;
