-- Every row of the source once. What fails is a row with its error, and is tried again by the next build; what is
-- in the ledger is not paid for again.
{{ config(materialized="incremental", unique_key="id") }}
SELECT s.id, s.url, s.tried.value.video_id AS video_id, s.tried.value.duration_sec AS duration_sec,
    s.tried.error.code AS error_code, s.tried.error.message AS error_message
FROM (
    SELECT id, url, try_tl_index_video(url) AS tried
    FROM {{ source("media", "videos") }}
    {% if is_incremental() %}
    WHERE (id, url) NOT IN (SELECT (id, url) FROM {{ this }} WHERE video_id IS NOT NULL)
    {% endif %}
) s
