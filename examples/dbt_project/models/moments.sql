-- The moments that answer a question, best first.
-- depends_on: {{ ref("videos") }}
SELECT q.question, v.id, v.url, hit.start_sec, hit.end_sec, hit.rank, hit.confidence
FROM {{ ref("questions") }} q,
    LATERAL tl_search('{{ env_var("TL_INDEX", "video_catalog") }}', q.question, max_hits => 5) hit
JOIN {{ ref("videos") }} v ON v.video_id = hit.video_id
