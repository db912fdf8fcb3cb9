-- Every video is indexed once, whatever dbt does: what is in the ledger is not paid for again.
{{ config(materialized="incremental", unique_key="id") }}
SELECT s.id, s.url, v.video_id, v.duration_sec
FROM (
    SELECT id, url, tl_index_video(url) AS v
    FROM {{ source("media", "videos") }}
    {% if is_incremental() %}
    WHERE (id, url) NOT IN (SELECT (id, url) FROM {{ this }})
    {% endif %}
) s
