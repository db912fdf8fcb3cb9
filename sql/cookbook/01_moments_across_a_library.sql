-- Moments for several questions across a library, each with a link that starts the player there.
-- The tables videos, clips, summaries, chapters, vectors, errors and runs are the lake's.
SELECT q.question, v.url, c.start_sec, c.end_sec, c.confidence,
       concat(v.url, '#t=', CAST(floor(c.start_sec) AS INT)) AS player_link
FROM (VALUES ('keep the emergency exit clear'), ('battery 90 miles'), ('a mostly pink picture')) AS q(question),
     LATERAL tl_search('demo', q.question, max_hits => 3) c
JOIN videos v ON v.video_id = c.video_id
ORDER BY q.question, c.rank, v.url;
