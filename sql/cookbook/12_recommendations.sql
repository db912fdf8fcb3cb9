-- What to show next: for each viewer, the two unseen videos whose clips are nearest to what was watched.
WITH watched AS (
    SELECT 'ann' AS viewer, v.video_id FROM videos v WHERE v.url LIKE '%soup%'
    UNION ALL
    SELECT 'bob' AS viewer, v.video_id FROM videos v WHERE v.url LIKE '%safety%'
),
near AS (
    SELECT w.viewer, b.video_id, avg(tl_similarity(a.vector, b.vector)) AS likeness
    FROM watched w
    JOIN vectors a ON a.video_id = w.video_id
    JOIN vectors b ON b.embedding_option = a.embedding_option
    WHERE a.embedding_scope = 'clip' AND b.embedding_scope = 'clip'
      AND NOT EXISTS (SELECT 1 FROM watched s WHERE s.viewer = w.viewer AND s.video_id = b.video_id)
    GROUP BY w.viewer, b.video_id
),
ranked AS (
    SELECT n.viewer, v.url, round(n.likeness, 3) AS likeness,
           row_number() OVER (PARTITION BY n.viewer ORDER BY n.likeness DESC, v.url) AS place
    FROM near n JOIN videos v ON v.video_id = n.video_id
)
SELECT viewer, place, url, likeness FROM ranked WHERE place <= 2 ORDER BY viewer, place;
